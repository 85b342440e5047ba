# SPDX-License-Identifier: MIT
"""Calls of libc, and of the allocator that is in place of libc's."""

def give_back() -> None:
    """Have the allocator give unused memory back, whichever it is.

    mimalloc does it by mi_collect(), tcmalloc by MallocExtension_ReleaseFreeMemory(), and libc by
    malloc_trim().
    """

def syscalls(times: int) -> None:
    """Make a system call that does nothing so often, by libc's syscall()."""
