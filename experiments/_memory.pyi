# SPDX-License-Identifier: MIT
"""Loops over 2 MiB units of a mapping and over /proc/PID/pagemap."""

from typing import Final

from typing_extensions import Buffer

MADV_PAGEOUT: Final[int]  # Python's mmap lacks this constant
MAP_NORESERVE: Final[int]  # Python's mmap has this constant since 3.13

def touched_offset(unit: int, seed: int) -> int:
    """Return the offset in the mapping of the one page that is touched in `unit`, in bytes."""

class Units:
    """Memory that starts on a 2 MiB boundary, in units of 2 MiB; a range ends before unit `last`.

    One page of each unit is touched, which `seed` chooses, or with `every_page` all. `write` says
    whether touching a page writes to it or only reads. Each release call is a madvise() with
    `advice`, by default MADV_DONTNEED, over `block` bytes. Times are in seconds.

    Raises ValueError for memory that starts elsewhere, for a block that does not divide 2 MiB into
    whole pages, and for units that are not there; and OSError where the kernel refuses a call.
    """

    view: memoryview
    address: int
    units: int
    seed: int

    def __init__(
        self,
        view: memoryview,
        *,
        seed: int,
        every_page: bool = False,
        block: int = ...,
        write: bool = True,
        advice: int = ...,
    ) -> None: ...
    def touch(self, first: int, last: int) -> float:
        """Touch each unit: one page of it, or all; return the time."""

    def release(self, first: int, last: int) -> float:
        """Release the blocks that `touch` touched; return the time."""

    def touch_and_release(self, first: int, last: int) -> tuple[float, float]:
        """Touch and release one unit after the other; return the time of each."""

    def release_but(self, first: int, last: int, per_million: int) -> tuple[float, int, list[int]]:
        """Release all blocks but `per_million` of a million, chosen by the seed.

        Pages to be kept are stamped first. Returns the time of the releases, the number of pages
        kept, and the units that keep some, ascending.
        """

    def kept_intact(self, per_million: int) -> bool:
        """Tell whether the pages that `release_but` kept hold its stamps; read nothing else."""

    def resident(self, first: int, last: int, *, every_page: bool) -> int:
        """Count by mincore() the pages in memory, of all pages or of one in each unit."""

def spin(stop: Buffer) -> None:
    """Keep a CPU busy in this address space, without the GIL, until `stop[0]` is not 0."""

def scan_units(
    fd: int, start: int, end: int, *, zero_pages: bool = True
) -> tuple[list[int], int, int]:
    """Return the 2 MiB units of [start, end) that hold an entry, by PAGEMAP_SCAN on a pagemap.

    They are addresses / 2 MiB, ascending. Two counts follow: of the units that a PMD maps as an
    anonymous huge page, and of those that one maps as a file's. Without `zero_pages`, entries of
    the shared zero page don't count. Raises OSError: ENOTTY before Linux 6.7.
    """

def read_units(fd: int, start: int, end: int, *, zero_frame: int = 0) -> list[int]:
    """Return the units of `scan_units` by reading the pagemap, on any kernel, without its counts.

    Entries that map the page frame `zero_frame`, if it isn't 0, don't count. Raises OSError.
    """
