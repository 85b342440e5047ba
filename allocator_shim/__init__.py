# SPDX-License-Identifier: MIT
"""What calls the module for an allocator: a library to preload into any program.

LD_PRELOAD=$(python -c 'import allocator_shim as shim; print(shim.shim_path())') program
"""

from pathlib import Path

__all__ = ["shim_path"]


def shim_path(*, syscall: bool = False) -> Path:
    """The library that LD_PRELOAD names: it stands in front of madvise() and its like.

    With `syscall` the one that stands in front of libc's syscall(), too, whose every call pays
    for that.
    """
    name = "libpgtable_cleanup_syscall.so" if syscall else "libpgtable_cleanup.so"
    return Path(__file__).with_name(name)
