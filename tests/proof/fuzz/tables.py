# SPDX-License-Identifier: MIT
"""A model of an address space's page tables: which exist, which are empty, what a call does.

Tables are known from what was done to the memory, entries from an observer (the pagemap): nothing
here comes from the module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from cleanup import _uapi
from guest.abi import Args
from guest.layout import GIB, PAGE, PROT_RW, PUD_SPAN, UNIT

SPANS = (UNIT, GIB, PUD_SPAN)  # what a PTE, a PMD and a PUD table maps
PTE, PMD, PUD = range(len(SPANS))
ANON, SHARED, FILE, PRIVATE_FILE, HUGE, HUGETLB = KINDS = (
    *("anon", "shared", "file", "private-file"),
    *("huge", "hugetlb"),
)


@dataclass(frozen=True)
class Piece:
    """A mapped stretch of memory that is the same all over, and lies within one VMA."""

    start: int
    end: int
    kind: str
    prot: int = PROT_RW
    locked: bool = False
    guarded: bool = False
    tracked: bool = False  # whether userfaultfd tracks writes to it

    @property
    def mapped_by_pages(self) -> bool:
        """Return whether PTE tables map the piece."""
        return self.kind not in (HUGE, HUGETLB)

    def within(self, start: int, end: int) -> Piece:
        """Return the part of the piece that lies in a stretch."""
        return replace(self, start=max(start, self.start), end=min(end, self.end))


@dataclass(frozen=True)
class Entries:
    """What a PTE table holds."""

    mapped: bool = False
    zero_pages: int = 0
    markers: bool = False

    def found(self, drops_zero_pages: bool) -> str:
        """Return the skip reason of the table, or "zero" or "empty" if it can be freed."""
        if self.mapped or (self.zero_pages and not drops_zero_pages):
            return "mapped"
        if self.markers:
            return "marker"
        return "zero" if self.zero_pages else "empty"


@dataclass
class Outcome:
    """The counts of a call, or the sums of several calls that together do the same."""

    holes: int = 0
    tables: list[int] = field(default_factory=lambda: [0, 0, 0])
    empty: list[int] = field(default_factory=lambda: [0, 0, 0])
    freed: list[int] = field(default_factory=lambda: [0, 0, 0])
    zero_pages_dropped: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


class Space:
    """Pieces and tables of a part of the address space that nobody else uses."""

    def __init__(self) -> None:
        """Begin with nothing mapped."""
        self.pieces: list[Piece] = []
        # A set for each level: a table is there as the first address that it maps // its span.
        self.tables: tuple[set[int], ...] = (set(), set(), set())
        self.leaves: dict[int, str] = {}  # for each unit that a huge page maps, the page's kind

    @property
    def pages(self) -> int:
        """Return the number of all tables, those included that huge pages have deposited."""
        return sum(map(len, self.tables)) + list(self.leaves.values()).count(HUGE)

    def within(self, start: int, end: int) -> list[Piece]:
        """Return the pieces that overlap a stretch."""
        return [piece for piece in self.pieces if piece.start < end and start < piece.end]

    def map(self, piece: Piece) -> None:
        """Map a piece over whatever is there, as mmap() does."""
        self.unmap(piece.start, piece.end)
        self._put(piece)

    def unmap(self, start: int, end: int) -> None:
        """Unmap a stretch: a table goes with the last piece that overlaps what it maps."""
        for piece in self._cut(start, end):
            for span, tables in zip(SPANS, self.tables, strict=True):
                for index in _indexes(piece.start, piece.end, span, tables):
                    if not self.within(index * span, (index + 1) * span):
                        tables.remove(index)
            for unit in _indexes(piece.start, piece.end, UNIT, self.leaves):
                del self.leaves[unit]

    def change(self, start: int, end: int, **attributes: str | int) -> None:
        """Give a stretch other attributes."""
        for piece in self._cut(start, end):
            self._put(replace(piece, **attributes))  # type: ignore[arg-type]

    def move(self, start: int, end: int, to: int) -> None:
        """Move a stretch as mremap() does, which makes tables at `to` for each table, empty or not.

        It goes step by step, because a step may make a table from which a later step moves.
        """
        moved = [
            replace(piece.within(start, end), start=to, end=to + end - start)
            for piece in self.within(start, end)
        ]
        self.unmap(to, to + end - start)
        for piece in moved:
            self._put(piece)
        away = to - start
        at = start
        while at < end:
            step = _step(at, end, away, GIB)
            if at // GIB in self.tables[PMD]:
                lowest = PMD  # The kernel moves a whole PMD table as it is;
                if step < GIB:  # from a part of one it moves each PTE table.
                    step, lowest = _step(at, end, away, UNIT), PUD
                self.populate(at + away, at + away + step, lowest)
                for unit in _indexes(at, at + step, UNIT, self.tables[PTE]):
                    first = max(at, unit * UNIT) + away
                    self.populate(first, min(at + away + step, first + UNIT))
            at += step
        self.unmap(start, end)

    def populate(self, start: int, end: int, lowest: int = PTE) -> None:
        """Add tables for a stretch, of the level `lowest` and of all above it."""
        for span, tables in list(zip(SPANS, self.tables, strict=True))[lowest:]:
            tables.update(range(start // span, -(-end // span)))

    def map_huge(self, unit: int, kind: str) -> None:
        """Map a huge page at an address."""
        self.populate(unit, unit + UNIT, PMD)
        self.leaves[unit // UNIT] = kind

    def call(self, args: Args, observe: Callable[[int], Entries]) -> Outcome:
        """Return the counts that a call must report; remove the tables unless it only scans."""
        outcome = Outcome()
        for addr, length in args.ranges:
            end = addr + -(-length // PAGE) * PAGE
            if addr == end:
                continue
            outcome.holes += self._holes(addr, end)
            for level, bit in enumerate(_uapi.LEVELS.values()):
                if not args.levels & bit:
                    continue
                for index in _indexes(addr, end, SPANS[level], self.tables[level]):
                    if level == PTE:
                        self._visit(outcome, args, index, observe(index))
                    else:
                        self._visit_upper(outcome, args, level, index)
                if level == PTE:
                    outcome.skipped.update(self._without_tables(addr, end))
        return outcome

    def _visit(self, outcome: Outcome, args: Args, unit: int, entries: Entries) -> None:
        pieces = self.within(unit * UNIT, (unit + 1) * UNIT)
        outcome.tables[PTE] += 1
        found = entries.found(bool(args.flags & _uapi.ZERO_PAGES))
        if any(piece.tracked for piece in pieces):
            found = "uffd"
        elif found == "zero":
            found = next(filter(None, map(_keeps_zero_pages, pieces)), "zero")
        if found not in ("empty", "zero"):
            outcome.skipped[found] += 1
            return
        outcome.empty[PTE] += 1
        if not args.flags & _uapi.SCAN_ONLY:
            outcome.freed[PTE] += 1
            outcome.zero_pages_dropped += entries.zero_pages
            self.tables[PTE].remove(unit)

    def _visit_upper(self, outcome: Outcome, args: Args, level: int, index: int) -> None:
        start, end = index * SPANS[level], (index + 1) * SPANS[level]
        below = SPANS[level - 1]
        outcome.tables[level] += 1
        if _indexes(start, end, below, self.tables[level - 1]):
            return
        if level == PMD and _indexes(start, end, UNIT, self.leaves):
            return
        outcome.empty[level] += 1
        if any(piece.tracked or piece.kind == HUGETLB for piece in self.within(start, end)):
            outcome.skipped["vma"] += 1
        elif not args.flags & _uapi.SCAN_ONLY:
            outcome.freed[level] += 1
            self.tables[level].remove(index)

    def _without_tables(self, start: int, end: int) -> Iterator[str]:
        """Yield the skip reason of each unit in a stretch that a huge page maps."""
        for unit in _indexes(start, end, UNIT, self.leaves):
            if self.leaves[unit] == HUGE:
                yield "thp"
        for piece in self.within(start // UNIT * UNIT, -(-end // UNIT) * UNIT):
            if piece.kind == HUGETLB:
                part = piece.within(start // UNIT * UNIT, -(-end // UNIT) * UNIT)
                yield from ["hugetlb"] * ((part.end - part.start) // UNIT)

    def _holes(self, start: int, end: int) -> int:
        holes = 0
        for piece in self.within(start, end):
            holes += piece.start > start
            start = piece.end
        return holes + (start < end)

    def _put(self, piece: Piece) -> None:
        self.pieces = sorted([*self.pieces, piece], key=lambda piece: piece.start)

    def _cut(self, start: int, end: int) -> list[Piece]:
        """Take out the pieces in a stretch and return them, but leave what sticks out of it."""
        overlapping = self.within(start, end)
        for piece in overlapping:
            self.pieces.remove(piece)
            if piece.start < start:
                self._put(replace(piece, end=start))
            if end < piece.end:
                self._put(replace(piece, start=end))
        return [piece.within(start, end) for piece in overlapping]


def _indexes(start: int, end: int, span: int, tables: Iterable[int]) -> list[int]:
    """Return the indexes of those tables of a level that overlap a stretch, in ascending order."""
    return sorted(index for index in tables if start // span <= index < -(-end // span))


def _step(at: int, end: int, away: int, span: int) -> int:
    """Return how far mremap() gets from `at` before an old or a new table's span ends."""
    return min(end - at, span - at % span, span - (at + away) % span)


def _keeps_zero_pages(piece: Piece) -> str | None:
    if piece.kind not in (ANON, HUGE):
        return "mapped"
    return "locked" if piece.locked else None
