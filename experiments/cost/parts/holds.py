# SPDX-License-Identifier: MIT
"""The times for which the module holds the mmap lock, from the kernel's tracepoints."""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cleanup import _uapi, device
from experiments import part
from experiments.cost import trace
from experiments.cost.meter import rcu_barrier
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

    With `zero_pages` they are full of entries for the zero page instead, which the walk drops.
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
_KINDS = ("write", "read")
_COUNTS = ("write_holds", "read_holds")


class Holds(part.Part):
    name = "reclaim-cost/holds"
    description = "longest holds of the mmap lock in a call of the module, by tracepoints"
    needs = part.COUNTING

    def measure(self, scale: part.Scale) -> part.Measured:
        """Free the tables of each level in each kind of mapping, with the module's defaults."""
        runs = scale.runs(_RUNS)
        share = scale.pick(1, _QUICK_SHARE)
        passes: dict[str, Any] = {}
        with device.opened() as opened:
            for mapping, directory in _MAPPINGS.items():
                for whole in _PASSES if directory else (*_PASSES, _ZERO_PAGES):
                    walk = replace(whole, tables=whole.tables // share)
                    scale.progress(f"{walk.tables_of}, {mapping.replace('_', ' ')}")
                    held = [_holds(opened.fd, walk, directory, scale.seed) for _ in range(runs)]
                    passes[f"{mapping}_{walk.tables_of.lower().replace(' ', '_')}"] = {
                        "mapping": mapping,
                        "tables_of": walk.tables_of,
                        "tables": walk.tables,
                        **{
                            name: first if name in _COUNTS else spread([one[name] for one in held])
                            for name, first in held[0].items()
                        },
                    }
        return {
            "runs": runs,
            "passes": passes,
            "shortest_write_hold_instructions": _shortest_hold(),
        }

    def claims(self, measured: part.Measured) -> list[part.Claim]:
        passes = measured["passes"].values()
        return [
            part.at_most(
                "instructions of the longest hold of the mmap lock for writing",
                max(one["longest_write_instructions"]["max"] for one in passes),
                _MOST_INSTRUCTIONS,
            )
        ]

    def rows(self, measured: part.Measured) -> Sequence[part.Row]:
        """Return the longest hold of each pass, for writing and for reading."""
        return [
            *(
                (f"{one['tables']} tables, {_label(one, kind)}", _shown(one, kind))
                for one in measured["passes"].values()
                for kind in _KINDS
            ),
            (
                "of each the tracepoints, at most",
                f"{measured['shortest_write_hold_instructions']:,} instructions",
            ),
        ]

    def draw(self, documents: part.Documents) -> part.Pictures:
        """Draw holds for writing and for reading; a pass without one has no bar."""
        from experiments.bars import bars_of  # noqa: PLC0415 -- a guest draws nothing

        passes = (documents[0]["measured"] or {})["passes"]
        return bars_of(
            documents,
            {(kind, name): _label(one, kind) for kind in _KINDS for name, one in passes.items()},
            lambda measured, key: _longest(measured["passes"][key[1]], key[0]),
            label="guest instructions of the longest hold of the mmap lock:\nmedian, least to most",
            missing="no such hold",
            limit=("limit of holds for writing", _MOST_INSTRUCTIONS),
        )


def _label(one: Mapping[str, Any], kind: str) -> str:
    return f"{one['tables_of']}, {one['mapping'].replace('_', ' ')}, {kind}"


def _longest(one: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    return one[f"longest_{kind}_instructions"] if one[f"{kind}_holds"] else None


def _shown(one: Mapping[str, Any], kind: str) -> str:
    longest = _longest(one, kind)
    return text(longest, "instructions") if longest else "none"


def _holds(fd: int, walk: _Pass, directory: Path | None, seed: int) -> dict[str, int]:
    """Return how many holds a traced call has, the longest, and the longest that the module saw.

    The module's own figure is taken without the trace, too. In a guest that counts instructions, an
    instruction takes one cycle and one nanosecond.
    """
    with _empty_tables(fd, walk, directory, seed) as mapping:
        untraced = _call(fd, walk, mapping)
    with _empty_tables(fd, walk, directory, seed) as mapping, trace.recorded() as recorded:
        traced = _call(fd, walk, mapping)
    found: dict[str, int] = {}
    for kind in _KINDS:
        cycles = [hold.cycles for hold in recorded if hold.write == (kind == "write")]
        found[f"{kind}_holds"] = len(cycles)
        found[f"longest_{kind}_instructions"] = max(cycles, default=0)
    found["module_longest_hold_instructions"] = untraced.longest_hold_ns
    found["module_longest_hold_traced_instructions"] = traced.longest_hold_ns
    return found


def _shortest_hold() -> int:
    """Return the shortest hold of a call that changes nothing: mostly the cost of the trace."""
    with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        page.madvise(mmap.MADV_DONTDUMP)
        with trace.recorded() as recorded:
            for _ in range(_TRIVIAL_CALLS):
                page.madvise(mmap.MADV_DONTDUMP)
    return min(hold.cycles for hold in recorded if hold.write)


@contextmanager
def _empty_tables(
    fd: int, walk: _Pass, directory: Path | None, seed: int
) -> Iterator[SparseMapping]:
    """Yield a mapping whose tables of one level are empty, and whose tables below are gone."""
    # The mapping need not begin on a multiple of the span, so it has room for one span more.
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
                _reclaim(fd, below, mapping)
        # Without this, RCU would free the lower levels' tables during the holds that are timed.
        rcu_barrier()
        yield mapping


def _call(fd: int, walk: _Pass, mapping: SparseMapping) -> _uapi.Counts:
    counts = _reclaim(fd, walk, mapping)
    freed = counts.freed[list(_uapi.LEVELS).index(walk.level)]
    if freed != walk.tables:
        raise part.ExperimentError(
            f"of {walk.tables} empty {walk.level.upper()} tables the module freed {freed}"
        )
    return counts


def _reclaim(fd: int, walk: _Pass, mapping: SparseMapping) -> _uapi.Counts:
    start, end = mapping.range
    return _uapi.call(
        fd,
        flags=_uapi.ZERO_PAGES if walk.zero_pages else 0,
        levels=_uapi.LEVELS[walk.level],
        ranges=((start, end - start),),
    )


PART = Holds()
