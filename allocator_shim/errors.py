# SPDX-License-Identifier: MIT
"""The failures that a user of allocator_shim can expect to meet."""


class JemallocError(OSError):
    """jemalloc refused a request. `errno` is what mallctl() returned."""


class NotLoaded(JemallocError):
    """The process does not allocate by jemalloc (ENOSYS). The message says how to have it do so."""


class NotPreloaded(OSError):
    """libpgtable_cleanup.so is not preloaded into the process, or is too old (ENOSYS)."""


class LibraryMissing(OSError):
    """The loader finds no such library (ENOENT). The message names the package to install."""

    def __str__(self) -> str:
        """Return the message alone, as neither the errno nor the file name adds to it."""
        return str(self.strerror)
