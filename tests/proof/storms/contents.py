# SPDX-License-Identifier: MIT
"""Memory of a stressor's own, and memory whose contents are known, page by page."""

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
# Far from where the kernel puts what Python maps: it can't take a place that a stressor left for a
# moment, and all tables of an area, the upper ones too, are the stressor's alone.
PLACE = 16 << 40
MOST_AREAS = 9
SPAN = (PLACE, MOST_AREAS * PUD_SPAN)


def place(index: int, units: int = UNITS) -> Area:
    """The address space of a process's areas, one PUD table each."""
    return Area(PLACE + index * PUD_SPAN, units)


@contextmanager
def placed(index: int, units: int = UNITS, flags: int = ANON, fd: int = -1) -> Iterator[Area]:
    """A mapping there without huge pages."""
    made = place(index, units)
    map_at(made.addr, made.length, flags, fd)
    madvise(made.addr, made.length, MADV_NOHUGEPAGE)
    try:
        yield made
    finally:
        unmap(made.addr, made.length)


class Contents:
    """A byte of each page of an area: what was written last, or 0.

    `values` maps the number of a page to its byte, pages that read as zero left out.
    """

    def __init__(self, made: Area, chance: random.Random) -> None:
        self.made = made
        self.values: dict[int, int] = {}
        self._chance = chance

    def address(self, page: int) -> int:
        """Where a page begins."""
        return self.made.addr + page * PAGE

    def any_unit(self) -> int:
        """The number of a unit."""
        return self._chance.randrange(self.made.units)

    def any_page(self) -> int:
        """One of few pages of a unit, so that tables empty and fill."""
        return self.any_unit() * PAGES_A_UNIT + self._chance.randrange(16) * 32

    def write(self, page: int) -> None:
        """Write another byte to a page."""
        value = self._chance.randrange(1, 256)
        poke(self.address(page), 1, PAGE, value)
        self.values[page] = value

    def release(self, first: int, count: int = 1) -> None:
        """MADV_DONTNEED: they read as zero from now on."""
        madvise(self.address(first), count * PAGE, MADV_DONTNEED)
        self.forget(first, count)

    def release_unit(self, unit: int) -> None:
        """By halves: a whole unit at once is freed with its table by 6.14 and later."""
        half = PAGES_A_UNIT // 2
        for first in (unit * PAGES_A_UNIT, unit * PAGES_A_UNIT + half):
            self.release(first, half)

    def forget(self, first: int, count: int) -> None:
        """What was there has been dropped."""
        for page in range(first, first + count):
            self.values.pop(page, None)

    def check(self, page: int, shift: int = 0) -> None:
        """The page, mapped `shift` bytes further, holds what it should; AssertionError if not."""
        found = peek(self.address(page) + shift, 1, PAGE)[0]
        wanted = self.values.get(page, 0)
        assert found == wanted, f"page {page} of {self.made}: {found} where {wanted} was written"

    def check_pages(self, pages: Iterable[int]) -> None:
        """All of these hold what they should."""
        for page in pages:
            self.check(page)

    def check_written(self, shift: int = 0) -> None:
        """All that was written and not dropped is there."""
        for page in self.values:
            self.check(page, shift)

    def churn(self, writes: int = 8) -> None:
        """Write some pages, look at them and another, and empty a table, now and then all."""
        pages = [self.any_page() for _ in range(writes)]
        for page in pages:
            self.write(page)
        self.check_pages([*pages, self.any_page()])
        if self._chance.randrange(8) == 0:
            for unit in range(self.made.units):
                self.release_unit(unit)
        else:
            self.release_unit(self.any_unit())
