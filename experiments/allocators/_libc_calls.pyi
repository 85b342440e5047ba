# SPDX-License-Identifier: MIT
"""Calls of libc, and of an allocator that replaces libc's."""

def give_back() -> None:
    """Have the allocator of this process, whichever it is, give unused memory back.

    mimalloc does it by mi_collect(), tcmalloc by MallocExtension_ReleaseFreeMemory(), and libc by
    malloc_trim().
    """

def syscalls(times: int) -> None:
    """Make `times` system calls that do nothing, by libc's syscall()."""

def mmaps(number: int) -> None:
    """Make `number` mappings of a page of memory each.  Raises MemoryError."""

def madvises(number: int) -> None:
    """Release the first `number` of these mappings, each by MADV_DONTNEED.  Raises OSError."""

def munmaps(number: int) -> None:
    """Unmap the first `number` of these mappings.  Raises OSError."""
