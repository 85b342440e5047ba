# SPDX-License-Identifier: MIT
"""A library that frees the empty page tables of the program that it is preloaded into.

This runs a program under it::

    LD_PRELOAD=$(python -c 'import allocator_shim as shim; print(shim.shim_path())') program
"""

from pathlib import Path

__all__ = ["shim_path"]


def shim_path() -> Path:
    """Return the path of the library, for LD_PRELOAD."""
    return Path(__file__).with_name("libpgtable_cleanup.so")
