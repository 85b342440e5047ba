# SPDX-License-Identifier: MIT
"""Empty page tables that jemalloc leaves behind, and how many of them each way frees."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.allocators import left
from experiments.allocators.process import Process, started
from experiments.allocators.ways import (
    HOOKS,
    HOOKS_MODULE,
    MODULE,
    PLAIN,
    RETAIN_FALSE,
    Way,
    jemalloc,
)
from experiments.measure import ExperimentError, Progress
from experiments.suite.part import Claim, Guest, Part, Result, Row, at_least

_BYTES = 2 << 30
_QUICK_BYTES = 256 << 20
_MOST = 1008
# Of the objects, every so manieth is kept, in the end the last of these: released in steps, as a
# program at work does it.
_KEPT = (5, 50, 1000, 100_000)
# What may be left after the last release, in seconds.
_GRACE = 2
_FREED_LEAST = 0.95
# jemalloc's default spreads its purges over ten.
_DECAY_SECONDS = 12

# Its last drain waits for the next release.
THREADLESS = replace(MODULE, name=f"{MODULE.name}, no thread", conf={"thread": "false"})
WAYS = (PLAIN, RETAIN_FALSE, MODULE, HOOKS, HOOKS_MODULE)
# Those that are to free them all; retain:false is there to compare.
_CLAIMED = (MODULE, HOOKS, HOOKS_MODULE)


class Tables:
    """See `Part`."""

    name = "tables"
    description = "empty page tables of a heap of which jemalloc keeps 1 object in 100,000"
    guest = Guest(icount=False, cpus=2, memory="4G")

    def measure(self, *, quick: bool, seed: int, progress: Progress) -> Result:
        """Once by each way, purged, and left to jemalloc's decay; the library has a thread.

        Quick, an eighth of that heap, purged, and without the ways there are to compare.
        """
        heap_bytes = _QUICK_BYTES if quick else _BYTES
        runs: dict[str, dict[str, Any]] = {}
        for release, look in (("purge", _purged), ("decay", _decayed)):
            if quick and release == "decay":
                continue
            runs[release] = {}
            for way in WAYS if release == "purge" else (*WAYS, THREADLESS):
                if way.works_here() and not (quick and way not in (PLAIN, *_CLAIMED)):
                    progress(f"{release}, {way.name}")
                    objects = 2 * heap_bytes // _MOST
                    runs[release][way.name] = look(way.attended(), seed, objects)
        return {
            "heap_bytes": heap_bytes,
            "kept_one_in": _KEPT[-1],
            "runs": runs,
            "claims": [claim for release, ways in runs.items() for claim in _claims(release, ways)],
        }

    def rows(self, result: Result) -> Sequence[Row]:
        """See `Part`."""
        return left.rows(result)


def _purged(way: Way, seed: int, objects: int) -> dict[str, int]:
    with started(way, jemalloc()) as process:
        return _emptied(process, seed, objects, lambda: process.tell("purge"))


def _decayed(way: Way, seed: int, objects: int) -> dict[str, int]:
    """The program goes on with a small heap of its own meanwhile: decay goes by its calls."""
    with started(way, jemalloc()) as process:
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
    return {**left.counted(begin, peak, end), "kept": kept}


def _claims(release: str, ways: Mapping[str, Mapping[str, int]]) -> list[Claim]:
    alone = ways[PLAIN.name]["empty"]
    if not alone:
        return []
    return [
        at_least(
            f"share of the empty tables freed within {_GRACE} s, {release}, {way.name}",
            1 - ways[way.name]["empty"] / alone,
            _FREED_LEAST,
        )
        for way in _CLAIMED
        if way.name in ways
    ]


PART: Part = Tables()
