# SPDX-License-Identifier: MIT
"""Page faults and releases of the calling thread, without the GIL.  Times are in nanoseconds.

`memory` is a writable buffer of this process's own, private and anonymous, of whole pages;
so are strides, in bytes.  ValueError for others.
"""

from typing_extensions import Buffer

def touch(memory: Buffer, *, stride: int) -> None:
    """Write a byte every `stride` bytes."""

def release(memory: Buffer, *, stride: int = ..., span: int = ...) -> None:
    """MADV_DONTNEED of `span` bytes every `stride` bytes; OSError.

    By default all of the memory, in pieces so small that no kernel frees their tables.
    """

def release_and_free(
    memory: Buffer, *, span: int, every: int, fd: int, max_hold_ns: int
) -> tuple[int, int, int]:
    """MADV_DONTNEED of the first `span` bytes of each 2 MiB, and an ioctl after so many of them.

    The memory is of whole batches. Returns the number of calls, the PTE tables they freed, and the
    longest hold of a lock in nanoseconds.  OSError where a system call fails.
    """

def record(memory: Buffer, latencies: Buffer, phase: Buffer) -> tuple[list[int], int]:
    """Write to one page after the other, as the byte `phase` says, which others set.

    0: wait; i: store the time of each by CLOCK_MONOTONIC in row i - 1 of `latencies`, rows of
    uint64; a number with no row: end.  A row that is full ends it, too.  After the last page
    all are given back, as by `release`.  Returns how many each row took, and the longest time
    of giving back.  OSError where madvise() fails.
    """
