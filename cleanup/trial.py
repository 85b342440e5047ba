# SPDX-License-Identifier: MIT
"""What this kernel does about page tables, found out by trying it on scratch memory.

Versions say little: a vendor may carry the code early or have it configured out.
"""

import errno
import mmap
from collections.abc import Callable
from contextlib import suppress

from cleanup import _mapping, _uapi
from cleanup.process import page_tables

UNIT_BYTES = 2 << 20  # what one PTE table maps, on x86-64
UNITS = 16


def dontneed_frees_tables() -> bool:
    """Whether MADV_DONTNEED over whole 2 MiB units frees their tables (Linux 6.14: PT_RECLAIM)."""
    return _frees_tables(
        lambda memory, start: memory.madvise(mmap.MADV_DONTNEED, start, UNITS * UNIT_BYTES)
    )


def remap_frees_tables() -> bool:
    """Whether mmap(MAP_FIXED) over whole 2 MiB units frees their tables."""
    return _frees_tables(
        lambda memory, start: _mapping.replace(_uapi.address_of(memory) + start, UNITS * UNIT_BYTES)
    )


def kernel_knows_advice() -> bool:
    """Whether the kernel itself answers madvise(MADV_CLEANUP_PGTABLE): none so far does."""
    with mmap.mmap(-1, mmap.PAGESIZE) as memory:
        try:
            _uapi.madvise(_uapi.address_of(memory), mmap.PAGESIZE, _uapi.MADV_CLEANUP_PGTABLE)
        except OSError as error:
            return error.errno != errno.EINVAL
    return True


def _frees_tables(release: Callable[[mmap.mmap, int], None]) -> bool:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, (UNITS + 1) * UNIT_BYTES, flags=flags) as memory:
        with suppress(OSError):  # EINVAL: a kernel without transparent huge pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        start = -_uapi.address_of(memory) % UNIT_BYTES
        for offset in range(start, start + UNITS * UNIT_BYTES, UNIT_BYTES):
            memory[offset] = 1
        before = page_tables().vmpte_bytes
        release(memory, start)
        freed = before - page_tables().vmpte_bytes
    # Half is margin enough for tables that the rest of this process gets meanwhile.
    return freed > UNITS * mmap.PAGESIZE // 2
