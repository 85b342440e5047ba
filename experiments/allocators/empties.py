# SPDX-License-Identifier: MIT
"""Page tables that a program has left after it freed nearly all that it had."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import cleanup
from experiments import oracle
from experiments.allocators.methods import ProgramMethod
from experiments.allocators.process import Process, started
from experiments.oracle import Census
from experiments.part import Documents, ExperimentError, Measured, Pictures, Row
from experiments.spread import spread
from experiments.summary import size_text

# Bytes of the largest object; the smallest has 16.
MOST = 1008
# One object in each of these numbers is kept, in the end in the last: released in steps, as a
# program at work does it.
KEPT = (5, 50, 1000, 100_000)
# What may be left after the last release, in seconds.
GRACE = 2


def rest(_process: Process) -> None:
    """Let all come to rest."""
    time.sleep(GRACE)


def objects_in(heap_bytes: int) -> int:
    """Return how many objects fill a heap."""
    return 2 * heap_bytes // MOST


def of_heap(
    method: ProgramMethod,
    libraries: Sequence[str],
    heap_bytes: int,
    seed: int,
    *,
    kept: Sequence[int] = KEPT,
    order: str | None = "jemalloc.purge",
    settle: Callable[[Process], object] = rest,
    reclaim: bool = True,
) -> dict[str, Any]:
    """Fill a heap and release it by steps, and return what is `found` once it has settled.

    After each step the program gets the order. Raises ExperimentError if an object was damaged.
    """
    objects = objects_in(heap_bytes)
    with started(method, libraries) as process:
        begin = process.tables()
        process.tell("objects", objects, MOST, seed, True)
        peak = process.tables()
        for keep in kept:
            process.tell("heap.release", keep)
            if order:
                process.tell(order)
        settle(process)
        found = found_in(process.pid, begin, peak, reclaim=reclaim)
        left, lost = process.tell("check")
    if lost or left != -(-objects // kept[-1]):
        raise ExperimentError(f"{lost} objects are damaged, {left} are there")
    return {**found, "kept": left}


def found_in(pid: int, begin: Census, peak: Census, *, reclaim: bool = True) -> dict[str, Any]:
    """Count tables, and then those that `reclaim` frees of them: None without the module.

    `peak` and `empty` are beyond those at the beginning, and `tables` are those now.
    """
    end = oracle.observe_halted(pid)
    found: dict[str, Any] = {
        "peak": peak.tables - begin.tables,
        "tables": end.tables,
        "empty": max(end.empty - begin.empty, 0),
    }
    if reclaim:
        works = cleanup.features().methods["module"].works
        found["reclaimed"] = cleanup.reclaim(pid).freed.total if works else None
    return found


def shown(run: dict[str, Any]) -> str:
    """Return what was found for people, and what was reclaimed if that was possible."""
    text = f"{run['empty']:,} empty of {run['tables']:,} tables"
    if run.get("reclaimed") is not None:
        text += f"; reclaim by pid freed {run['reclaimed']:,}"
    return text


def rows(measured: Measured) -> Sequence[Row]:
    """Return what was found, by what was freed and by method."""
    return [
        ("heap", size_text(measured["heap_bytes"])),
        *(
            (f"{name}, {method}", shown(run))
            for name, methods in measured["runs"].items()
            for method, run in methods.items()
        ),
    ]


def draw(
    documents: Documents, names: Sequence[str], methods: Sequence[str], label: str
) -> Pictures:
    """Draw bars for each of `names` of the `runs`, and each method that one of them was run by."""
    from experiments.bars import bars_of  # noqa: PLC0415 -- a guest draws nothing

    def empty(measured: Measured, key: tuple[str, str]) -> dict[str, Any] | None:
        name, method = key
        run = measured["runs"].get(name, {}).get(method)
        return run and spread([run["empty"]])

    groups = {(name, method): f"{name}, {method}" for name in names for method in methods}
    found = {
        key: shown
        for key, shown in groups.items()
        if any(empty(one["measured"] or {}, key) for one in documents)
    }
    return bars_of(documents, found, empty, label=label, missing="not run there")
