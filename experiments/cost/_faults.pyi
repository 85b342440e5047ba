# SPDX-License-Identifier: MIT
"""Page faults of the calling thread, without the GIL.  Times are in nanoseconds.

`memory` is a writable buffer of this process's own, private and anonymous, of whole pages;
so are strides, in bytes.  ValueError for others.
"""

from typing_extensions import Buffer

def touch(memory: Buffer, *, stride: int) -> int:
    """Write a byte every `stride` bytes; return the CPU time of this thread."""

def release(memory: Buffer, *, stride: int = ..., span: int = ...) -> None:
    """MADV_DONTNEED of `span` bytes every `stride` bytes; OSError.

    By default all of the memory, in pieces so small that no kernel frees their tables.
    """

def record(memory: Buffer, latencies: Buffer, flags: Buffer) -> tuple[int, int]:
    """Write to one page after the other, from `flags[0]` set to `flags[1]` set.

    After the last page all are given back, as by `release`.  `latencies`, a buffer of
    uint64, takes the time of each by CLOCK_MONOTONIC, and ends the work when full.  Returns
    how many it took, and the longest time of giving back.  OSError where madvise() fails.
    """
