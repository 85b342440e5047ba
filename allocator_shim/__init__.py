# SPDX-License-Identifier: MIT
"""A library that frees the empty page tables of the program that it is preloaded into.

This runs a program under it::

    LD_PRELOAD=$(python -c 'import allocator_shim as shim; print(shim.shim_path())') program
"""

from pathlib import Path

__all__ = ["shim_path"]


def shim_path(*, syscall: bool = False) -> Path:
    """Return the path of the library, for LD_PRELOAD.

    The library stands in front of madvise(), munmap() and the like.  With `syscall` the path is
    that of a library that stands in front of libc's syscall(), too, and makes each call of it a
    little slower.
    """
    name = "libpgtable_cleanup_syscall.so" if syscall else "libpgtable_cleanup.so"
    return Path(__file__).with_name(name)
