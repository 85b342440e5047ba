# SPDX-License-Identifier: MIT
"""The result of a scan or a reclaim: what it found, and what it did."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any

from cleanup import _uapi
from cleanup.skip_reason import SkipReason


@dataclass(frozen=True, slots=True)
class Levels:
    """A number of page tables (of one page each) for each level of the page-table tree."""

    pte: int = 0
    pmd: int = 0
    pud: int = 0

    def __add__(self, other: Levels) -> Levels:
        return Levels(self.pte + other.pte, self.pmd + other.pmd, self.pud + other.pud)

    @property
    def total(self) -> int:
        """The tables of all levels together."""
        return self.pte + self.pmd + self.pud


@dataclass(frozen=True, slots=True)
class Result:
    """The counts of a scan or a reclaim, added up over all of its system calls.

    A Result is a value: it can be compared, hashed, pickled and added to another. `print(result)`
    gives a sentence::

        >>> print(cleanup.reclaim(4711))
        4 of 10 page tables were empty, 4 were freed (16 KiB); left alone: 6 mapped

    `tables` were seen, `empty` of them were empty when scanned, and `freed` of these a reclaim
    freed; a scan frees none. `skipped` maps each `SkipReason` that occurred to the tables left
    alone for it. `zero_pages_dropped` counts the entries that `zero_pages` dropped.

    `holes` are unmapped stretches inside the ranges. `flushes` are TLB flushes, and
    `longest_hold_ns` is the longest time in nanoseconds that the target's mmap lock was held at a
    stretch. `calls` are system calls. `complete` is false if `max_tables` or a failure ended the
    work before the end of the ranges.
    """

    tables: Levels = field(default_factory=Levels)
    empty: Levels = field(default_factory=Levels)
    freed: Levels = field(default_factory=Levels)
    skipped: Mapping[str, int] = field(default_factory=dict)
    zero_pages_dropped: int = 0
    holes: int = 0
    flushes: int = 0
    longest_hold_ns: int = 0
    calls: int = 0
    complete: bool = False

    def __post_init__(self) -> None:
        # The caller may change its dictionary later; a frozen Result must not change with it.
        object.__setattr__(self, "skipped", MappingProxyType(dict(self.skipped)))

    def _values(self, skipped: object) -> dict[str, Any]:
        """Return the fields by name, with another value for `skipped`."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"skipped": skipped}

    def __hash__(self) -> int:
        # The hash must not depend on the order of items, as mappings are equal in any order.
        return hash(tuple(self._values(frozenset(self.skipped.items())).values()))

    def __reduce__(self) -> tuple[Any, ...]:
        # A MappingProxyType can't be pickled.
        return type(self), tuple(self._values(dict(self.skipped)).values())

    def __str__(self) -> str:
        empty, freed = self.empty.total, self.freed.total
        was, were = ("was" if number == 1 else "were" for number in (empty, freed))
        parts = [f"{empty} of {self.tables.total} page tables {was} empty"]
        if freed:
            parts[0] += f", {freed} {were} freed ({freed * mmap.PAGESIZE // 1024} KiB)"
        if self.zero_pages_dropped:
            parts.append(f"{self.zero_pages_dropped} zero-page entries dropped")
        if self.skipped:
            parts.append("left alone: " + reasons(self.skipped))
        if self.holes:
            parts.append(f"{self.holes} unmapped holes in the ranges")
        if not self.complete:
            parts.append("ended before all was seen")
        return "; ".join(parts)

    def __add__(self, other: Result) -> Result:
        """Return the counts of both together. The sum is complete if both are."""
        skipped = dict(self.skipped)
        for reason, number in other.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + number
        return Result(
            tables=self.tables + other.tables,
            empty=self.empty + other.empty,
            freed=self.freed + other.freed,
            skipped=skipped,
            zero_pages_dropped=self.zero_pages_dropped + other.zero_pages_dropped,
            holes=self.holes + other.holes,
            flushes=self.flushes + other.flushes,
            longest_hold_ns=max(self.longest_hold_ns, other.longest_hold_ns),
            calls=self.calls + other.calls,
            complete=self.complete and other.complete,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain dictionaries and numbers."""
        skipped = {str(reason): number for reason, number in self.skipped.items()}
        return {
            name: asdict(value) if isinstance(value, Levels) else value
            for name, value in self._values(skipped).items()
        }


def reasons(skipped: Mapping[str, int]) -> str:
    """Return skip counts as people read them, such as "8 mapped, 2 thp"."""
    return ", ".join(f"{number} {reason}" for reason, number in skipped.items())


def of_call(counts: _uapi.Counts) -> Result:
    """Return one system call's counts. `complete` stays false: only `carry_out` can tell."""
    return Result(
        tables=Levels(*counts.tables),
        empty=Levels(*counts.empty),
        freed=Levels(*counts.freed),
        skipped={_reason(index): number for index, number in enumerate(counts.skipped) if number},
        zero_pages_dropped=counts.zero_pages_dropped,
        holes=counts.holes,
        flushes=counts.flushes,
        longest_hold_ns=counts.longest_hold_ns,
        calls=1,
    )


def _reason(index: int) -> str:
    """Return a skip reason's name; a reason that only a newer module knows gets one made up."""
    name = _uapi.SKIP_REASONS.get(index)
    return f"reason_{index}" if name is None else SkipReason(name)
