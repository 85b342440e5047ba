# SPDX-License-Identifier: MIT
"""A library that frees the empty page tables of the program that it is preloaded into.

This runs a program under it::

    LD_PRELOAD=$(pgtable-cleanup exec --library) program

And this compiles a C program that calls it::

    cc -I$(python -c 'import allocator_shim as shim; print(shim.get_include())') program.c
"""

from pathlib import Path

__all__ = ["get_include", "shim_path"]


def shim_path() -> Path:
    """Return the path of the library, for LD_PRELOAD."""
    return Path(__file__).with_name("libpgtable_cleanup.so")


def get_include() -> Path:
    """Return the directory of the C headers, for a compiler's -I."""
    return Path(__file__).with_name("include")
