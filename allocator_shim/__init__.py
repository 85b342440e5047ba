# SPDX-License-Identifier: MIT
"""What calls the module for an allocator: a library to preload into any program.

LD_PRELOAD=$(python -c 'import allocator_shim as shim; print(shim.shim_path())') program
"""

from pathlib import Path

__all__ = ["shim_path"]


def shim_path() -> Path:
    """The library that LD_PRELOAD names: it stands in front of madvise() and its like."""
    return Path(__file__).with_name("libpgtable_cleanup.so")
