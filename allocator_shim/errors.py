# SPDX-License-Identifier: MIT
"""The failures that a user of allocator_shim can expect to meet."""


class JemallocError(OSError):
    """jemalloc refused: `errno` is what mallctl() returned."""


class NotLoaded(JemallocError):
    """The process does not allocate by jemalloc (ENOSYS); the message says how it would."""


class NotPreloaded(OSError):
    """libpgtable_cleanup.so is not preloaded into the process (ENOSYS)."""


class LibraryMissing(OSError):
    """The loader finds no such library (ENOENT); the message names the package to install."""

    def __str__(self) -> str:
        """Only what to do: neither the number nor the file name adds to it."""
        return str(self.strerror)
