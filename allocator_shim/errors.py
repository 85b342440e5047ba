# SPDX-License-Identifier: MIT
"""The failures that a user of allocator_shim can expect to meet."""


class JemallocError(OSError):
    """jemalloc refused: `errno` is what mallctl() returned."""


class NotLoaded(JemallocError):
    """The process does not allocate by jemalloc (ENOSYS); the message says how it would."""


class NotPreloaded(OSError):
    """libpgtable_cleanup.so is not preloaded into the process (ENOSYS)."""
