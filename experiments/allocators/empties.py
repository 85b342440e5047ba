# SPDX-License-Identifier: MIT
"""Counts of the page tables that a program keeps after it has freed nearly all of its heap."""

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

# The size of the largest object of a heap, in bytes; the smallest has 16.
MOST = 1008
# The heap is released in steps, as a program at work does it: each step keeps one object in
# the next of these numbers, and frees the rest.
KEPT = (5, 50, 1000, 100_000)
# The seconds after the last release in which the empty tables must be freed.
GRACE = 2


def rest(_process: Process) -> None:
    """Wait until the program and the library have come to rest."""
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
    """Fill a heap and release it in steps, and return what `found_in` counts once it has settled.

    After each step the program gets the `order`. Raises ExperimentError if an object was damaged.
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
    """Count the page tables of a process, then have the module free the empty ones.

    In the result `peak` and `empty` leave out what `begin` counted; `tables` has all.
    `reclaimed` counts what the module freed; it is None without the module.
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
    """Return a text of what was found, and of what the module freed if it was asked to."""
    text = f"{run['empty']:,} empty of {run['tables']:,} tables"
    if run.get("reclaimed") is not None:
        text += f"; reclaim by pid freed {run['reclaimed']:,}"
    return text


def rows(measured: Measured) -> Sequence[Row]:
    """Return a row for each of the `runs` and each method: what was found there."""
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
    """Draw the empty tables left, with a bar for each of the `methods` in each run of `names`."""
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
