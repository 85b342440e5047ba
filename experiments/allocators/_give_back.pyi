# SPDX-License-Identifier: MIT
"""Having the process's allocator give unused memory back, whichever it is."""

def give_back() -> str:
    """Have it done by the allocator's own function; the name of that.

    Of mimalloc mi_collect(), of tcmalloc MallocExtension_ReleaseFreeMemory(), else libc's
    malloc_trim().
    """
