# SPDX-License-Identifier: MIT
"""Empty page tables that jemalloc leaves behind, and how many of them each method frees."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.allocators import empties
from experiments.allocators.methods import (
    HOOKS,
    HOOKS_MODULE,
    MODULE,
    NONE,
    RETAIN_FALSE,
    ProgramMethod,
    jemalloc,
)
from experiments.allocators.process import Process, started
from experiments.part import (
    Claim,
    Documents,
    ExperimentError,
    Measured,
    Part,
    Pictures,
    Row,
    Scale,
    at_least,
)

_BYTES = 2 << 30
_QUICK_BYTES = 64 << 20
_MOST = 1008
# One object in each of these numbers is kept, in the end in the last: released in steps, as a
# program at work does it.
_KEPT = (5, 50, 1000, 100_000)
# What may be left after the last release, in seconds.
_GRACE = 2
_FREED_LEAST = 0.95
# jemalloc's default spreads its purges over ten.
_DECAY_SECONDS = 12

# Its last drain waits for the next release.
THREADLESS = replace(MODULE, name=f"{MODULE.name}, no thread", conf={"thread": "false"})
METHODS = (NONE, RETAIN_FALSE, MODULE, HOOKS, HOOKS_MODULE)
# Those that are to free them all; retain:false is there to compare.
_CLAIMED = (MODULE, HOOKS, HOOKS_MODULE)


class Tables(Part):
    name = "allocators/tables"
    description = "empty page tables of a heap of which jemalloc keeps 1 object in 100,000"

    def measure(self, scale: Scale) -> Measured:
        """Run once by each method, purged, and left to jemalloc's decay; the library has a thread.

        A quick measurement is of a smaller heap, purged, without what is there to compare.
        """
        heap_bytes = scale.pick(_BYTES, _QUICK_BYTES)
        runs: dict[str, dict[str, Any]] = {}
        for release, look in (("purge", _purged), ("decay", _decayed)):
            if scale.quick and release == "decay":
                continue
            runs[release] = {}
            for method in METHODS if release == "purge" else (*METHODS, THREADLESS):
                if method.works_here() and not (scale.quick and method not in (NONE, *_CLAIMED)):
                    scale.progress(f"{release}, {method.name}")
                    objects = 2 * heap_bytes // _MOST
                    runs[release][method.name] = look(method.attended(), scale.seed, objects)
        return {
            "heap_bytes": heap_bytes,
            "kept_one_in": _KEPT[-1],
            "runs": runs,
        }

    def claims(self, measured: Measured) -> list[Claim]:
        runs = measured["runs"].items()
        return [claim for release, methods in runs for claim in _claims(release, methods)]

    def rows(self, measured: Measured) -> Sequence[Row]:
        return empties.rows(measured)

    def draw(self, documents: Documents) -> Pictures:
        label = "empty page tables left in the heap (tables of 4 KiB)"
        names = [method.name for method in (*METHODS, THREADLESS)]
        return empties.draw(documents, ("purge", "decay"), names, label)


def _purged(method: ProgramMethod, seed: int, objects: int) -> dict[str, int]:
    with started(method, jemalloc()) as process:
        return _emptied(process, seed, objects, lambda: process.tell("purge"))


def _decayed(method: ProgramMethod, seed: int, objects: int) -> dict[str, int]:
    """The program goes on with a small heap of its own meanwhile: decay goes by its calls."""
    with started(method, jemalloc()) as process:
        found = _emptied(process, seed, objects, lambda: None, seconds=_DECAY_SECONDS)
        if process.tell("dirty") > 1000:
            raise ExperimentError("jemalloc has not given all back: the decay takes longer here")
        return found


def _emptied(
    process: Process, seed: int, objects: int, release: Callable[[], object], seconds: float = 0
) -> dict[str, int]:
    begin = process.tables()
    process.tell("objects", objects, _MOST, seed, True)
    peak = process.tables()
    for keep in _KEPT:
        process.tell("release", keep)
        release()
    if seconds:
        process.tell("work", seconds + _GRACE, 1000, _MOST, seed)
    else:
        time.sleep(_GRACE)
    end = process.tables()
    kept, lost = process.tell("check")
    if lost or kept != -(-objects // _KEPT[-1]):
        raise ExperimentError(f"{lost} objects are damaged, {kept} are there")
    return {**empties.counted(begin, peak, end), "kept": kept}


def _claims(release: str, methods: Mapping[str, Mapping[str, int]]) -> list[Claim]:
    alone = methods[NONE.name]["empty"]
    if not alone:
        return []
    return [
        at_least(
            f"share of the empty tables freed within {_GRACE} s, {release}, {method.name}",
            1 - methods[method.name]["empty"] / alone,
            _FREED_LEAST,
        )
        for method in _CLAIMED
        if method.name in methods
    ]


PART = Tables()
