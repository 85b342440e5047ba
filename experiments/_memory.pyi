# SPDX-License-Identifier: MIT
"""Loops over 2 MiB units of a mapping and over /proc/PID/pagemap.

`memory` is a writable buffer that starts on a 2 MiB boundary; units count from its
start, `last` excluded.  `seed` chooses the one page touched in each unit, unless
`every_page`.  Times are in nanoseconds of CLOCK_MONOTONIC.
"""

from array import array
from typing import Final

from typing_extensions import Buffer

MAP_NORESERVE: Final[int]  # Python's mmap has it from 3.13 on only

def touched_offset(unit: int, seed: int) -> int:
    """Offset in the mapping of the one page touched in `unit`, in bytes."""

def touch(memory: Buffer, first: int, last: int, *, seed: int, every_page: bool) -> int:
    """Write to the pages of units `first` to `last`; return the time it took."""

def release(
    memory: Buffer, first: int, last: int, *, seed: int, every_page: bool, block: int
) -> int:
    """Release what `touch` touched by MADV_DONTNEED of `block` bytes a call; return the time.

    OSError where madvise() fails.
    """

def touch_and_release(
    memory: Buffer, first: int, last: int, *, seed: int, every_page: bool, block: int
) -> tuple[int, int]:
    """Touch and release one unit after the other; return the time of each."""

def spin(stop: Buffer) -> None:
    """Keep a CPU busy in this address space, without the GIL, until `stop[0]` is not 0."""

def scan_units(fd: int, start: int, end: int) -> tuple[array[int], int, int]:
    """The 2 MiB units of [start, end) that hold an entry, by PAGEMAP_SCAN on a pagemap.

    Ascending addresses / 2 MiB; then how many of them an anonymous huge page maps by
    its PMD, and how many a file's.  OSError: ENOTTY before Linux 6.7.
    """

def read_units(fd: int, start: int, end: int) -> array[int]:
    """The same units by reading the pagemap, which any kernel has; it can't tell huge pages."""
