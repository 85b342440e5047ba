# SPDX-License-Identifier: MIT
"""The memory of a stressor, and a record of what each of its pages must contain."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from _raw import peek, poke

from guest.layout import (
    ANON,
    MADV_DONTNEED,
    MADV_NOHUGEPAGE,
    PAGE,
    PUD_SPAN,
    UNIT,
    Area,
    madvise,
    map_at,
    unmap,
)

UNITS = 8
PAGES_A_UNIT = UNIT // PAGE
# This is far from where the kernel puts what Python maps: nothing takes a place that a stressor
# left for a moment, and all tables of an area, the upper ones too, are the stressor's alone.
PLACE = 16 << 40
MOST_AREAS = 9
SPAN = (PLACE, MOST_AREAS * PUD_SPAN)


def place(index: int, units: int = UNITS) -> Area:
    """Return the place of an area, which has a PUD table to itself."""
    return Area(PLACE + index * PUD_SPAN, units)


@contextmanager
def placed(index: int, units: int = UNITS, flags: int = ANON, fd: int = -1) -> Iterator[Area]:
    """Map an area at its place, without huge pages, for as long as the block runs."""
    made = place(index, units)
    map_at(made.addr, made.length, flags, fd)
    madvise(made.addr, made.length, MADV_NOHUGEPAGE)
    try:
        yield made
    finally:
        unmap(made.addr, made.length)


class Contents:
    """An area, and the byte that was last written to each of its pages.

    `values` maps a page's number to its byte; pages that read as zero are left out.
    """

    def __init__(self, made: Area, chance: random.Random) -> None:
        self.made = made
        self.values: dict[int, int] = {}
        self._chance = chance

    def address(self, page: int) -> int:
        """Return the address of a page."""
        return self.made.addr + page * PAGE

    def any_unit(self) -> int:
        """Return the number of a random unit."""
        return self._chance.randrange(self.made.units)

    def any_page(self) -> int:
        """Return a random page, one of only 16 a unit, so that tables often empty and fill."""
        return self.any_unit() * PAGES_A_UNIT + self._chance.randrange(16) * 32

    def write(self, page: int) -> None:
        """Write another byte to a page."""
        value = self._chance.randrange(1, 256)
        poke(self.address(page), 1, PAGE, value)
        self.values[page] = value

    def release(self, first: int, count: int = 1) -> None:
        """Release pages by MADV_DONTNEED: they read as zero from now on."""
        madvise(self.address(first), count * PAGE, MADV_DONTNEED)
        self.forget(first, count)

    def release_unit(self, unit: int) -> None:
        """Release a unit by halves: since 6.14 a whole one would be released with its table."""
        half = PAGES_A_UNIT // 2
        for first in (unit * PAGES_A_UNIT, unit * PAGES_A_UNIT + half):
            self.release(first, half)

    def forget(self, first: int, count: int) -> None:
        """Expect pages to read as zero, because they were dropped."""
        for page in range(first, first + count):
            self.values.pop(page, None)

    def check(self, page: int, shift: int = 0) -> None:
        """Raise AssertionError unless a page, moved by `shift` bytes, holds its byte."""
        found = peek(self.address(page) + shift, 1, PAGE)[0]
        wanted = self.values.get(page, 0)
        assert found == wanted, f"page {page} of {self.made}: {found} where {wanted} was written"

    def check_pages(self, pages: Iterable[int]) -> None:
        """Check each of these pages."""
        for page in pages:
            self.check(page)

    def check_written(self, shift: int = 0) -> None:
        """Check every page that was written and not dropped."""
        for page in self.values:
            self.check(page, shift)

    def churn(self, writes: int = 8) -> None:
        """Write and check random pages, then empty a random table, or now and then all."""
        pages = [self.any_page() for _ in range(writes)]
        for page in pages:
            self.write(page)
        self.check_pages([*pages, self.any_page()])
        if self._chance.randrange(8) == 0:
            for unit in range(self.made.units):
                self.release_unit(unit)
        else:
            self.release_unit(self.any_unit())
