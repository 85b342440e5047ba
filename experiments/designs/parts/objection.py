# SPDX-License-Identifier: MIT
"""A test of an objection: one thread that touches whole 2 MiB makes freeing look too cheap."""

from collections.abc import Sequence
from typing import Any

import cleanup
from experiments import part
from experiments.cost import _faults
from experiments.cost.turns import cpu_ns, shares
from experiments.sparse import PAGE, UNIT, sparse_mapping
from experiments.spread import spread

_THREADS = (1, 2, 4)
_RUNS = 5
# Pages touched in each unit of 2 MiB, their distance, and the number of units for all threads
# together, which is small so that a guest without KVM is done in minutes.
_ACCESS = {
    "single": (1, UNIT, 1024),
    "sixteen": (16, UNIT // 16, 256),
    "whole": (512, PAGE, 32),
}
_QUICK_SHARE = 8


class Objection(part.Part):
    name = "designs/objection"
    description = (
        "instructions of filling memory again and again, released in between, its tables kept or "
        "freed each time: by a page of each 2 MiB, and by all"
    )
    needs = part.COUNTING

    def measure(self, scale: part.Scale) -> part.Measured:
        """Run cycles of touch and release, with a cleanup or without; threads share one CPU."""
        runs = scale.runs(_RUNS)
        figures: part.Measured = {}
        for threads in _THREADS:
            for access, (pages, stride, whole) in _ACCESS.items():
                units = whole // scale.pick(1, _QUICK_SHARE)
                scale.progress(f"{threads} thread(s), {pages} of 512 pages")
                with (
                    sparse_mapping(units * UNIT, seed=scale.seed) as mapping,
                    shares(mapping.view, threads) as memory,
                ):
                    _cycle(memory, stride, free=True)
                    figures[f"{access}-{threads}"] = {
                        "threads": threads,
                        "pages": pages,
                        "units": units,
                        **_compared(memory, stride, runs),
                    }
        return {"runs": runs, "access": figures}

    def rows(self, measured: part.Measured) -> Sequence[part.Row]:
        """Return what a cycle costs for each page, and the page tables left after it."""
        return [(_label(one), _shown(one)) for one in measured["access"].values()]

    def draw(self, documents: part.Documents) -> part.Pictures:
        """Draw what freeing adds, in percent of a cycle that keeps its tables."""
        from experiments.bars import bars_of  # noqa: PLC0415 -- a guest draws nothing

        return bars_of(
            documents,
            {name: _label(one) for name, one in (documents[0]["measured"] or {})["access"].items()},
            lambda measured, name: _percent(measured["access"].get(name)),
            label="instructions more for each page touched, where its table is freed and made "
            "anew (%)",
        )


def _label(one: part.Measured) -> str:
    threads = one["threads"]
    return f"{one['pages']} of 512 pages, {threads} thread{'s' if threads > 1 else ''}"


def _percent(one: part.Measured | None) -> part.Measured | None:
    if one is None:
        return None
    kept = one["kept_instructions"]["median"]
    freed = one["freed_instructions"]
    return {name: 100 * (freed[name] / kept - 1) for name in ("median", "min", "max")}


def _shown(one: part.Measured) -> str:
    return (
        f"{one['kept_instructions']['median']:,.0f} a page with its table kept, "
        f"{one['freed_instructions']['median']:,.0f} with it freed and made anew: "
        f"{one['more']:+.1%}; {one['kept_bytes'] >> 10:,} kB of tables stay, or "
        f"{one['freed_bytes'] >> 10:,} kB"
    )


def _compared(memory: Sequence[memoryview], stride: int, runs: int) -> dict[str, Any]:
    pages = sum(map(len, memory)) // stride
    found: dict[str, Any] = {}
    for name, free in (("kept", False), ("freed", True)):
        # The first cycle doesn't count: it finds tables freed where this loop keeps them, or kept.
        taken = [_cycle(memory, stride, free=free) / pages for _ in range(1 + runs)]
        found[f"{name}_instructions"] = spread(taken[1:])
        found[f"{name}_bytes"] = cleanup.page_tables().vmpte_bytes
    kept, freed = (found[f"{name}_instructions"]["median"] for name in ("kept", "freed"))
    return {**found, "more": freed / kept - 1}


def _cycle(memory: Sequence[memoryview], stride: int, *, free: bool) -> int:
    """Run one cycle; return the instructions of all threads and of the cleanup after them."""
    freed: list[int] = []

    def use(share: memoryview) -> None:
        _faults.touch(share, stride=stride)
        _faults.release(share, stride=stride, span=PAGE)

    def clean(share: memoryview) -> None:
        freed.append(cleanup.reclaim(share, levels=["pte"]).freed.pte)

    taken = cpu_ns(use, memory)
    for share in memory if free else ():
        taken += cpu_ns(clean, [share])
        if freed[-1] < len(share) // UNIT - 2:
            raise part.ExperimentError(f"{freed[-1]} tables were freed of {len(share) // UNIT}")
    return taken


PART = Objection()
