# SPDX-License-Identifier: MIT
"""How long the module holds the mmap lock, by the kernel's tracepoints."""

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cleanup import _uapi
from experiments.cost import trace
from experiments.cost.meter import rcu_barrier
from experiments.part import (
    COUNTING,
    Claim,
    Documents,
    ExperimentError,
    Measured,
    Part,
    Pictures,
    Row,
    Scale,
    at_most,
)
from experiments.sparse import UNIT, SparseMapping, sparse_mapping
from experiments.spread import spread, text

_RUNS = 5
_QUICK_SHARE = 8
_MOST_INSTRUCTIONS = 200_000
_TRIVIAL_CALLS = 16
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class _Pass:
    """A walk over `tables` empty tables of one level, each of which maps `span` bytes.

    With `zero_pages` they are full of entries for the zero page, which are dropped.
    """

    level: str
    span: int
    tables: int
    zero_pages: bool = False

    @property
    def tables_of(self) -> str:
        return self.level.upper() + (" of zero pages" if self.zero_pages else "")


_PASSES = (_Pass("pte", UNIT, 4096), _Pass("pmd", _GIB, 256), _Pass("pud", 512 * _GIB, 32))
_ZERO_PAGES = _Pass("pte", UNIT, 64, zero_pages=True)
_MAPPINGS = {"anonymous": None, "shared_file": Path("/dev/shm")}  # noqa: S108 -- any tmpfs


class Holds(Part):
    name = "reclaim-cost/holds"
    description = "longest holds of the mmap lock in a call of the module, by tracepoints"
    needs = COUNTING

    def measure(self, scale: Scale) -> Measured:
        """Free each level in each kind of mapping apart, with the module's defaults."""
        runs = scale.runs(_RUNS)
        share = scale.pick(1, _QUICK_SHARE)
        passes: dict[str, Any] = {}
        device = _uapi.open_device()
        try:
            for mapping, directory in _MAPPINGS.items():
                for whole in _PASSES if directory else (*_PASSES, _ZERO_PAGES):
                    walk = replace(whole, tables=whole.tables // share)
                    scale.progress(f"{walk.tables_of}, {mapping.replace('_', ' ')}")
                    passes[f"{mapping}_{walk.tables_of.lower().replace(' ', '_')}"] = {
                        "mapping": mapping,
                        "tables_of": walk.tables_of,
                        "tables": walk.tables,
                        **_figures(
                            [_hold(device, walk, directory, scale.seed) for _ in range(runs)]
                        ),
                    }
        finally:
            os.close(device)
        return {
            "runs": runs,
            "passes": passes,
            "shortest_write_hold_instructions": _shortest_hold(),
        }

    def claims(self, measured: Measured) -> list[Claim]:
        passes = measured["passes"].values()
        return [
            at_most(
                "instructions of the longest hold of the mmap lock for writing",
                max(one["longest_write_instructions"]["max"] for one in passes),
                _MOST_INSTRUCTIONS,
            )
        ]

    def rows(self, measured: Measured) -> Sequence[Row]:
        """Return the longest hold of each kind."""
        return [
            *(_row(one, kind) for one in measured["passes"].values() for kind in ("write", "read")),
            (
                "of each the tracepoints, at most",
                f"{measured['shortest_write_hold_instructions']:,} instructions",
            ),
        ]

    def draw(self, documents: Documents) -> Pictures:
        """Draw holds for writing and for reading; a pass without one has no bar."""
        from experiments.bars import bars_of  # noqa: PLC0415 -- a guest draws nothing

        def figures(measured: Measured, key: tuple[str, str]) -> dict[str, Any] | None:
            kind, name = key
            one = measured["passes"][name]
            return one[f"longest_{kind}_instructions"] if one[f"{kind}_holds"] else None

        return bars_of(
            documents,
            {
                (kind, name): f"{one['tables_of']}, {one['mapping'].replace('_', ' ')}, {kind}"
                for kind in ("write", "read")
                for name, one in (documents[0]["measured"] or {})["passes"].items()
            },
            figures,
            label="guest instructions of the longest hold of the mmap lock:\nmedian, least to most",
            missing="no such hold",
            limit=("limit of holds for writing", _MOST_INSTRUCTIONS),
        )


def _row(one: Mapping[str, Any], kind: str) -> Row:
    mapping = one["mapping"].replace("_", " ")
    longest = one[f"longest_{kind}_instructions"]
    return (
        f"{one['tables']} tables, {one['tables_of']}, {mapping}, {kind}",
        text(longest, "instructions") if one[f"{kind}_holds"] else "none",
    )


@dataclass(frozen=True, slots=True)
class _Observed:
    """A traced call, and the module's own count of its longest hold with and without the trace."""

    holds: Sequence[trace.Hold]
    traced_instructions: int
    untraced_instructions: int

    def longest(self, *, write: bool) -> int:
        return max((hold.cycles for hold in self.holds if hold.write == write), default=0)


def _hold(device: int, walk: _Pass, directory: Path | None, seed: int) -> _Observed:
    with _empty_tables(device, walk, directory, seed) as mapping:
        untraced = _call(device, walk, mapping)
    with _empty_tables(device, walk, directory, seed) as mapping, trace.recorded() as recorded:
        traced = _call(device, walk, mapping)
    return _Observed(recorded.holds, traced.longest_hold_ns, untraced.longest_hold_ns)


def _shortest_hold() -> int:
    """A call that changes nothing, under mmap write: what its hold takes is the trace's, mostly."""
    with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        page.madvise(mmap.MADV_DONTDUMP)
        with trace.recorded() as recorded:
            for _ in range(_TRIVIAL_CALLS):
                page.madvise(mmap.MADV_DONTDUMP)
    return min(hold.cycles for hold in recorded.holds if hold.write)


@contextmanager
def _empty_tables(
    device: int, walk: _Pass, directory: Path | None, seed: int
) -> Iterator[SparseMapping]:
    """A mapping whose tables of one level are empty, and those below gone."""
    # Spans that the mapping has for itself: one more, as it does not begin with one.
    with sparse_mapping(
        (walk.tables + 1) * walk.span,
        seed=seed,
        directory=directory,
        every_page=walk.zero_pages,
        write=not walk.zero_pages,
        advice=mmap.MADV_DONTNEED,
    ) as mapping:
        first = -mapping.address % walk.span // UNIT
        for unit in range(first, first + walk.tables * walk.span // UNIT, walk.span // UNIT):
            mapping.touch(unit, unit + 1)
            if not walk.zero_pages:
                mapping.release(unit, unit + 1)
        for below in _PASSES:
            if below.span < walk.span:
                _reclaim(device, below, mapping)
        # Or RCU would free these in the middle of the holds that are to be timed.
        rcu_barrier()
        yield mapping


def _call(device: int, walk: _Pass, mapping: SparseMapping) -> _uapi.Counts:
    counts = _reclaim(device, walk, mapping)
    freed = counts.freed[list(_uapi.LEVELS).index(walk.level)]
    if freed != walk.tables:
        raise ExperimentError(
            f"of {walk.tables} empty {walk.level.upper()} tables the module freed {freed}"
        )
    return counts


def _reclaim(device: int, walk: _Pass, mapping: SparseMapping) -> _uapi.Counts:
    start, end = mapping.range
    return _uapi.call(
        device,
        flags=_uapi.ZERO_PAGES if walk.zero_pages else 0,
        levels=_uapi.LEVELS[walk.level],
        ranges=((start, end - start),),
    )


def _figures(observed: Sequence[_Observed]) -> dict[str, Any]:
    """A guest that counts instructions has a cycle, and a nanosecond, for each of them."""
    figures: dict[str, Any] = {}
    for kind, write in (("write", True), ("read", False)):
        figures[f"{kind}_holds"] = sum(hold.write == write for hold in observed[0].holds)
        figures[f"longest_{kind}_instructions"] = spread(
            [one.longest(write=write) for one in observed]
        )
    figures["module_longest_hold_instructions"] = spread(
        [one.untraced_instructions for one in observed]
    )
    figures["module_longest_hold_traced_instructions"] = spread(
        [one.traced_instructions for one in observed]
    )
    return figures


PART = Holds()
