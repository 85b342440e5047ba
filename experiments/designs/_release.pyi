# SPDX-License-Identifier: MIT
"""Releases, and calls of the module after them."""

from typing_extensions import Buffer

def release(
    memory: Buffer, *, block: int, every: int, fd: int, max_hold_ns: int
) -> tuple[int, int, int]:
    """MADV_DONTNEED of the first `block` bytes of each 2 MiB, and an ioctl after so many of them.

    `memory` is writable and of whole, aligned 2 MiB.  With `every` 0 there are no calls.  Returns
    the number of calls, the PTE tables they freed, and the longest hold of a lock in nanoseconds.
    OSError where a system call fails.
    """
