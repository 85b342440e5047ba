# SPDX-License-Identifier: MIT
"""What a scan or a reclaim found and did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from cleanup import _uapi


@dataclass(frozen=True, slots=True)
class Levels:
    """Tables (of one page each) at each level of the page-table tree."""

    pte: int = 0
    pmd: int = 0
    pud: int = 0

    def __add__(self, other: Levels) -> Levels:
        return Levels(self.pte + other.pte, self.pmd + other.pmd, self.pud + other.pud)

    @property
    def total(self) -> int:
        """Tables of all levels."""
        return self.pte + self.pmd + self.pud


@dataclass(frozen=True, slots=True)
class Result:
    """Counts as the module reports them, added up over all of its calls.

    `empty` is what was empty when scanned, `freed` the part of it that a reclaim freed. `skipped`
    maps a reason to the tables left alone for it, reasons that did not occur left out; `holes` are
    unmapped stretches inside the ranges; `complete` is false if `max_tables` ended the work before
    the end of the ranges. `longest_hold_ns` is the longest time in nanoseconds that the target's
    mmap lock was held at a stretch.
    """

    tables: Levels = field(default_factory=Levels)
    empty: Levels = field(default_factory=Levels)
    freed: Levels = field(default_factory=Levels)
    skipped: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    zero_pages_dropped: int = 0
    holes: int = 0
    flushes: int = 0
    longest_hold_ns: int = 0
    calls: int = 0
    complete: bool = False

    def __add__(self, other: Result) -> Result:
        """Both together; complete if both are."""
        skipped = dict(self.skipped)
        for reason, number in other.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + number
        return Result(
            tables=self.tables + other.tables,
            empty=self.empty + other.empty,
            freed=self.freed + other.freed,
            skipped=MappingProxyType(skipped),
            zero_pages_dropped=self.zero_pages_dropped + other.zero_pages_dropped,
            holes=self.holes + other.holes,
            flushes=self.flushes + other.flushes,
            longest_hold_ns=max(self.longest_hold_ns, other.longest_hold_ns),
            calls=self.calls + other.calls,
            complete=self.complete and other.complete,
        )

    def to_json(self) -> dict[str, Any]:
        """The same as plain dictionaries and numbers."""
        return {
            name: (
                {level: getattr(value, level) for level in _uapi.LEVELS}
                if isinstance(value, Levels)
                else dict(value)
                if isinstance(value, Mapping)
                else value
            )
            for name in self.__slots__
            for value in [getattr(self, name)]
        }


def of_call(counts: _uapi.Counts) -> Result:
    """What one call counted; not complete, as one call can't tell."""
    return Result(
        tables=Levels(*counts.tables),
        empty=Levels(*counts.empty),
        freed=Levels(*counts.freed),
        skipped=MappingProxyType(
            {
                # A newer module may know reasons that this build has no name for.
                _uapi.SKIP_REASONS.get(index, f"reason_{index}"): number
                for index, number in enumerate(counts.skipped)
                if number
            }
        ),
        zero_pages_dropped=counts.zero_pages_dropped,
        holes=counts.holes,
        flushes=counts.flushes,
        longest_hold_ns=counts.longest_hold_ns,
        calls=1,
    )
