# SPDX-License-Identifier: MIT
"""Finds out what this kernel does about page tables, by trying it on scratch memory.

A kernel's version says little: a vendor may carry the code early or have it configured out.
"""

import errno
import mmap
from collections.abc import Callable
from contextlib import suppress

from cleanup import _mapping, _uapi
from cleanup.process import page_tables

UNIT_BYTES = 2 << 20  # One PTE table maps 2 MiB on x86-64.
UNITS = 16


def dontneed_frees_tables() -> bool:
    """Say whether MADV_DONTNEED over whole 2 MiB units frees their tables (PT_RECLAIM, 6.14)."""
    return _frees_tables(
        lambda memory, start: memory.madvise(mmap.MADV_DONTNEED, start, UNITS * UNIT_BYTES)
    )


def remap_frees_tables() -> bool:
    """Say whether mmap(MAP_FIXED) over whole 2 MiB units frees their tables."""
    return _frees_tables(
        lambda memory, start: _mapping.replace(_uapi.address_of(memory) + start, UNITS * UNIT_BYTES)
    )


def kernel_knows_advice() -> bool:
    """Say whether the kernel itself answers madvise(MADV_CLEANUP_PGTABLE). No kernel does yet."""
    with mmap.mmap(-1, mmap.PAGESIZE) as memory:
        try:
            _uapi.madvise(_uapi.address_of(memory), mmap.PAGESIZE, _uapi.MADV_CLEANUP_PGTABLE)
        except OSError as error:
            return error.errno != errno.EINVAL
    return True


def _frees_tables(release: Callable[[mmap.mmap, int], None]) -> bool:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, (UNITS + 1) * UNIT_BYTES, flags=flags) as memory:
        with suppress(OSError):  # a kernel without huge pages gives EINVAL
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        start = -_uapi.address_of(memory) % UNIT_BYTES
        for offset in range(start, start + UNITS * UNIT_BYTES, UNIT_BYTES):
            memory[offset] = 1
        before = page_tables().vmpte_bytes
        release(memory, start)
        freed = before - page_tables().vmpte_bytes
    # Other threads may get new tables meanwhile, which hide freed ones: half of UNITS is enough.
    return freed > UNITS * mmap.PAGESIZE // 2
