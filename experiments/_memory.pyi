# SPDX-License-Identifier: MIT
"""Loops over 2 MiB units of a mapping and over /proc/PID/pagemap.

`memory` is a writable buffer that starts on a 2 MiB boundary; units count from its
start, `last` excluded.  `seed` chooses the one page touched in each unit, unless
`every_page`.  Times are in nanoseconds of CLOCK_MONOTONIC.
"""

from array import array
from typing import Final

from typing_extensions import Buffer

MADV_PAGEOUT: Final[int]  # Python's mmap lacks it
MAP_NORESERVE: Final[int]  # Python's mmap has it from 3.13 on only

def touched_offset(unit: int, seed: int) -> int:
    """Offset in the mapping of the one page touched in `unit`, in bytes."""

def touch(
    memory: Buffer, first: int, last: int, *, seed: int, every_page: bool, write: bool = True
) -> int:
    """Write to the pages of units `first` to `last`, or only read; return the time it took."""

def release(
    memory: Buffer,
    first: int,
    last: int,
    *,
    seed: int,
    every_page: bool,
    block: int,
    advice: int = ...,
) -> int:
    """Release what `touch` touched by madvise() of `block` bytes a call; return the time.

    `advice` is MADV_DONTNEED by default.  OSError where madvise() fails.
    """

def touch_and_release(
    memory: Buffer, first: int, last: int, *, seed: int, every_page: bool, block: int
) -> tuple[int, int]:
    """Touch and release one unit after the other; return the time of each."""

def release_but(
    memory: Buffer,
    first: int,
    last: int,
    *,
    seed: int,
    block: int,
    per_million: int,
    advice: int = ...,
) -> tuple[int, int, array[int]]:
    """Release all blocks but some, chosen by the seed; stamp the pages of those before.

    Of a million blocks about `per_million` are kept.  Returns the time of the releases, the number
    of pages kept, and the units that keep none, ascending.  `advice` is MADV_DONTNEED by default.
    OSError where one fails.
    """

def kept_intact(
    memory: Buffer, first: int, last: int, *, seed: int, block: int, per_million: int
) -> bool:
    """Whether the pages that `release_but` keeps hold its stamps; reads nothing else."""

def resident(memory: Buffer, first: int, last: int, *, seed: int, every_page: bool) -> int:
    """How many pages of units `first` to `last` are in memory, by mincore().

    Looked at are all of them if `every_page`, else the one that `touch` touches.  OSError.
    """

def spin(stop: Buffer) -> None:
    """Keep a CPU busy in this address space, without the GIL, until `stop[0]` is not 0."""

def scan_units(
    fd: int, start: int, end: int, *, zero_pages: bool = True
) -> tuple[array[int], int, int]:
    """The 2 MiB units of [start, end) that hold an entry, by PAGEMAP_SCAN on a pagemap.

    Ascending addresses / 2 MiB; then how many of them an anonymous huge page maps by
    its PMD, and how many a file's.  Without `zero_pages`, entries that map the shared
    zero page don't count.  OSError: ENOTTY before Linux 6.7.
    """

def read_units(fd: int, start: int, end: int, *, zero_frame: int = 0) -> array[int]:
    """The same units by reading the pagemap, which any kernel has; it can't tell huge pages.

    Entries that map the page frame `zero_frame`, if it isn't 0, don't count.  OSError.
    """
