# SPDX-License-Identifier: MIT
"""Page faults of another thread while 100,000 tables are freed."""

import os
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import MADV_DONTFORK, MADV_NOHUGEPAGE, MAP_ANONYMOUS, MAP_PRIVATE, mmap
from pathlib import Path
from statistics import median
from typing import TypedDict

from cleanup import Result as Reclaimed
from cleanup import call, device
from cleanup.errors import CleanupError
from cleanup.experiments import _memory
from cleanup.experiments.cost import _faults
from cleanup.experiments.cost.latencies import Latencies, median_round, share_above, summary
from cleanup.experiments.cost.part import Claim, Guest, Part, Result, Row, at_most
from cleanup.experiments.measure import Progress
from cleanup.experiments.sparse import PAGE, UNIT, sparse_mapping

_TABLES = 100_000
_GIB = 1 << 30
# One page in each GiB: so many PMD tables, and a PUD table for each 512 of them.
_UPPER_TABLES = 32_768
_ROUNDS = 5
_SPIN_SECONDS = 1.0
_AREA_BYTES = 128 << 20
# More than there are in the longest of the passes.
_MOST_FAULTS = 4_000_000


@dataclass(frozen=True, slots=True)
class _Area:
    """Memory for the faulting thread, and the CPU it is kept on."""

    memory: mmap
    cpu: int


class Pass(TypedDict):
    """Faults while one thing was done.

    `stalled_share` is the part of them that took longer than p99 of the same round's
    faults with nothing done; `longest_release_ns` is the longest time that the same thread
    then took to give its pages back.  The last two are the module's own.
    """

    latencies: Latencies
    stalled_share: float
    longest_release_ns: int
    freed: int
    longest_hold_ns: int


# The passes of a round.
SHOWN = {
    "spinning": "nothing freed",
    "pte": "PTE tables freed",
    "pte_quarter_hold": "PTE tables freed, a quarter of the hold",
    "upper": "PMD and PUD tables freed",
}


class Faults:
    """See `Part`."""

    name = "faults"
    description = f"page faults of another thread while {_TABLES:,} tables are freed"
    guest = Guest(icount=False, cpus=2)

    def measure(self, *, quick: bool, seed: int, progress: Progress) -> Result:
        """In rounds, each with a pass of nothing freed to compare with."""
        with device.opened() as opened:
            hold_ns = opened.features.default_max_hold_ns
        rounds = []
        with _pinned() as other, _area(other) as area:
            for number in range(1 if quick else _ROUNDS):
                progress(f"round {number + 1}")
                rounds.append(_round(area, hold_ns, seed))
        return {
            "emulated": "TCG" in Path("/proc/cpuinfo").read_text(),
            "tables": _TABLES,
            "upper_tables": _UPPER_TABLES,
            "default_max_hold_ns": hold_ns,
            "rounds": rounds,
            "claims": [claim(rounds, name) for name in SHOWN if name != "spinning"],
        }

    def rows(self, result: Result) -> Sequence[Row]:
        """See `Part`."""
        rounds: Sequence[dict[str, Pass]] = result["rounds"]
        clock = ", times of an emulator" if result["emulated"] else ""
        shown = []
        for name, what in SHOWN.items():
            passes = [passes[name] for passes in rounds]
            middle, p99, longest = (
                median(each["latencies"][key] for each in passes) / 1000
                for key in ("median_ns", "p99_ns", "max_ns")
            )
            said = f"median {middle:,.1f} p99 {p99:,.1f} longest {longest:,.1f} µs"
            if name != "spinning":
                stalled = 100 * median(each["stalled_share"] for each in passes)
                hold = median(each["longest_hold_ns"] for each in passes) / 1000
                said += f"; {stalled:.2f} % stalled; longest hold {hold:,.1f} µs"
            shown.append((f"faults, {what}{clock}", said))
        return shown


def claim(rounds: Sequence[dict[str, Pass]], name: str) -> Claim:
    """The longest fault of a pass is no longer than p99 of nothing freed and one hold.

    A busy host stretches any fault: the round in the middle is taken.
    """

    def limit(passes: dict[str, Pass]) -> int:
        return passes["spinning"]["latencies"]["p99_ns"] + passes[name]["longest_hold_ns"]

    def longest(passes: dict[str, Pass]) -> int:
        return passes[name]["latencies"]["max_ns"]

    middle = median_round(rounds, lambda passes: longest(passes) - limit(passes))
    return at_most(
        f"ns of the longest fault, {SHOWN[name]}: p99 of nothing freed and the longest hold",
        longest(middle),
        limit(middle),
    )


def _round(area: _Area, hold_ns: int, seed: int) -> dict[str, Pass]:
    ordered, longest_release, _ = _while(area, _spin)
    spinning: Pass = {
        "latencies": summary(ordered),
        "stalled_share": 0.0,
        "longest_release_ns": longest_release,
        "freed": 0,
        "longest_hold_ns": 0,
    }
    usual = spinning["latencies"]["p99_ns"]
    spinning["stalled_share"] = share_above(ordered, usual)
    passes = {"spinning": spinning}
    with sparse_mapping(-(-_TABLES * UNIT // _GIB) * _GIB, seed=seed) as mapping:
        for name, divisor in (("pte", 1), ("pte_quarter_hold", 4)):
            mapping.touch_and_release(0, _TABLES)
            passes[name] = _freeing(
                area, mapping.view, ("pte",), _TABLES, usual, max_hold_ns=hold_ns // divisor
            )
    with sparse_mapping(_UPPER_TABLES * _GIB, seed=seed) as mapping:
        _faults.touch(mapping.view, stride=_GIB)
        _faults.release(mapping.view, stride=_GIB, span=PAGE)
        call.reclaim(mapping.view, levels=("pte",))
        passes["upper"] = _freeing(
            area, mapping.view, ("pmd", "pud"), _UPPER_TABLES, usual, max_hold_ns=hold_ns
        )
    return passes


def _freeing(
    area: _Area,
    memory: memoryview,
    levels: Sequence[str],
    tables: int,
    usual_ns: int,
    *,
    max_hold_ns: int,
) -> Pass:
    ordered, longest_release, done = _while(
        area, lambda: call.reclaim(memory, levels=levels, max_hold_ns=max_hold_ns)
    )
    if done.freed.total < tables:
        raise CleanupError(f"of {tables} empty tables {done.freed.total} were freed")
    return {
        "latencies": summary(ordered),
        "stalled_share": share_above(ordered, usual_ns),
        "longest_release_ns": longest_release,
        "freed": done.freed.total,
        "longest_hold_ns": done.longest_hold_ns,
    }


def _while(area: _Area, work: Callable[[], Reclaimed]) -> tuple[list[int], int, Reclaimed]:
    """Fault in another thread while `work` runs in this one.

    Returns the faults' latencies in nanoseconds, ascending, the longest time of giving
    their pages back, and what `work` returned.
    """
    recorded = array("Q", bytes(8 * _MOST_FAULTS))
    flags = bytearray(2)
    _faults.release(area.memory)
    with ThreadPoolExecutor(1, initializer=_pin, initargs=(area.cpu,)) as pool:
        thread = pool.submit(_faults.record, area.memory, recorded, flags)
        while not thread.running() and not thread.done():
            threading.Event().wait(0.001)
        flags[0] = 1
        try:
            done = work()
        finally:
            flags[:] = b"\1\1"
        count, longest_release = thread.result()
    if count in (0, _MOST_FAULTS):
        raise CleanupError(f"{count} faults were recorded: too few or too many to judge by")
    return sorted(memoryview(recorded)[:count]), longest_release, done


def _spin() -> Reclaimed:
    """Keep this thread's CPU busy for a while, and free nothing."""
    stop = bytearray(1)

    def end() -> None:
        stop[0] = 1

    timer = threading.Timer(_SPIN_SECONDS, end)
    timer.start()
    _memory.spin(stop)
    timer.join()
    return Reclaimed()


def _pin(cpu: int) -> None:
    """Keep the calling thread on one CPU."""
    os.sched_setaffinity(0, {cpu})


@contextmanager
def _pinned() -> Iterator[int]:
    """Keep this thread on one CPU; gives another one."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        raise CleanupError("two threads are to run at once: at least two CPUs are needed")
    mine, other = sorted(allowed)[:2]
    _pin(mine)
    try:
        yield other
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def _area(cpu: int) -> Iterator[_Area]:
    """Memory to fault on, its tables there; a VMA of its own."""
    with mmap(-1, _AREA_BYTES, flags=MAP_PRIVATE | MAP_ANONYMOUS) as area:
        area.madvise(MADV_NOHUGEPAGE)
        # What differs from its neighbours is not merged with them.
        area.madvise(MADV_DONTFORK)
        _faults.touch(area, stride=PAGE)
        yield _Area(area, cpu)


PART: Part = Faults()
