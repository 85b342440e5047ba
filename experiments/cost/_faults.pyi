# SPDX-License-Identifier: MIT
"""Functions that fault memory in and release it, without the GIL.  Times are in nanoseconds.

`memory` is a writable buffer of whole pages of private anonymous memory.  Strides are in bytes
and must be whole pages, too.  Others raise ValueError.
"""

from typing_extensions import Buffer

def touch(memory: Buffer, *, stride: int) -> None:
    """Write a byte every `stride` bytes."""

def release(memory: Buffer, *, stride: int = ..., span: int = ...) -> None:
    """Release `span` bytes every `stride` bytes, by MADV_DONTNEED.  Raises OSError.

    By default this releases all of the memory, in pieces so small that no kernel frees tables.
    """

def release_and_free(
    memory: Buffer, *, span: int, every: int, fd: int, max_hold_ns: int
) -> tuple[int, int, int]:
    """Release the first `span` bytes of each 2 MiB, and call the module after `every` of them.

    The memory must be a multiple of `every` times 2 MiB. Returns the number of ioctls, the PTE
    tables they freed, and the longest lock hold.  Raises OSError where a system call fails.
    """

def record(memory: Buffer, latencies: Buffer, phase: Buffer) -> tuple[list[int], int]:
    """Fault in one page after the other, and time each fault, as another thread says in `phase`.

    `phase` is one byte.  0 means to wait; i means to store the time of each fault in row i - 1 of
    `latencies`, whose rows are uint64.  A number without a row ends the recording, and so does a
    full row.  After the last page all pages are released, as by `release`.  Returns how many faults
    each row has, and the longest time that a release took.  Raises OSError where madvise() fails.
    """
