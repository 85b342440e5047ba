# SPDX-License-Identifier: MIT
"""Free the empty page tables of one's own memory."""

import mmap
import sys

import cleanup

SIZE, UNIT = 1 << 30, 2 << 20
memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
for offset in range(0, SIZE, UNIT):
    memory[offset] = 1
for offset in range(0, SIZE, UNIT):
    memory.madvise(mmap.MADV_DONTNEED, offset, mmap.PAGESIZE)

sys.stdout.write(f"{cleanup.reclaim(memory)}\n")
