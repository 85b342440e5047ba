# SPDX-License-Identifier: MIT
"""Page faults of another thread while tables are freed."""

import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from mmap import MADV_DONTFORK, MADV_NOHUGEPAGE, MAP_ANONYMOUS, MAP_PRIVATE, mmap
from pathlib import Path
from statistics import median, median_high
from time import monotonic

from cleanup import cleaning, device
from cleanup.errors import CleanupError
from cleanup.result import Result as Reclaimed
from experiments.cost import _faults, trace
from experiments.cost.latencies import count_above, percentile, summary
from experiments.part import Claim, Documents, Measured, Part, Pictures, Row, Scale, at_most
from experiments.sparse import PAGE, UNIT, sparse_mapping

_TABLES = 100_000
_QUICK_TABLES = 16_000
_GIB = 1 << 30
# One page in each GiB makes this many PMD tables, and a PUD table for each 512 of them.
_UPPER_TABLES = 32_768
_QUICK_UPPER_TABLES = 8_000
_ROUNDS = 5
# Each pass frees its tables in this many parts.  Before each part nothing is freed for a while.
_PARTS = 40
_SPIN_SECONDS = 0.02
_AREA_BYTES = 128 << 20
# The longest pass has fewer faults than this.
_MOST_FAULTS = 1_000_000
# The kernel's trace has room for the events of this many faults.
_TRACED_FAULTS = 2048


# The passes of a round, and what reports call them.
SHOWN = {
    "spinning": "nothing freed",
    "pte": "PTE tables freed",
    "pte_quarter_hold": "PTE tables freed, a quarter of the hold",
    "upper": "PMD and PUD tables freed",
}


class Faults(Part):
    name = "reclaim-cost/faults"
    description = "page faults of another thread while tables are freed"

    def measure(self, scale: Scale) -> Measured:
        """Measure in rounds, each with a pass in which nothing is freed, for comparison."""
        tables = scale.pick(_TABLES, _QUICK_TABLES)
        upper_tables = scale.pick(_UPPER_TABLES, _QUICK_UPPER_TABLES)
        with device.opened() as opened:
            hold_ns = opened.features.default_max_hold_ns
        rounds = []
        with _other_cpu() as pool, _area() as area:
            for number in range(scale.runs(_ROUNDS)):
                scale.progress(f"round {number + 1}")
                with _faulting(pool, area) as faulting:
                    freed = _free_all(faulting, hold_ns, scale.seed, tables, upper_tables)
                rounds.append(faulting.round(freed))
            locks = _locks(area, scale.seed)
        return {
            "emulated": "TCG" in Path("/proc/cpuinfo").read_text(),
            "tables": tables,
            "upper_tables": upper_tables,
            "default_max_hold_ns": hold_ns,
            "mmap_locks": locks,
            "rounds": rounds,
        }

    def title(self, measured: Measured) -> str:
        return self.description.replace("while", f"while {measured['tables']:,}")

    def claims(self, measured: Measured) -> list[Claim]:
        return [claim(measured["rounds"], name) for name in SHOWN if name != "spinning"]

    def rows(self, measured: Measured) -> Sequence[Row]:
        rounds = measured["rounds"]
        clock = ", times of an emulator" if measured["emulated"] else ""
        locks = measured["mmap_locks"]
        return [
            *((f"faults, {what}{clock}", _shown(rounds, name)) for name, what in SHOWN.items()),
            (
                f"mmap lock, {locks['tables']} PTE tables freed",
                f"held {locks['write_holds']} times for writing, {locks['read_holds']} for reading",
            ),
            ("mmap lock, each fault", f"taken {locks['holds_per_fault']:.2f} times"),
        ]

    def draw(self, documents: Documents) -> Pictures:
        from experiments.cost import survival  # noqa: PLC0415 -- a guest draws nothing

        return {"": survival.draw(documents, SHOWN)}


def _shown(rounds: Sequence[Measured], name: str) -> str:
    passes = [each["passes"][name] for each in rounds]
    middle, p99, longest = (
        median(each["latencies"][key] for each in passes) / 1000
        for key in ("median_ns", "p99_ns", "max_ns")
    )
    said = f"median {middle:,.1f} p99 {p99:,.1f} longest {longest:,.1f} µs"
    if name == "spinning":
        return said
    stalled = 100 * median(each["stalled_share"] for each in passes)
    hold = median(each["longest_hold_ns"] for each in passes) / 1000
    over = sum(each["over_limit"] for each in passes)
    seconds = sum(each["seconds"] for each in passes)
    usually_over = sum(each["usual_over_limit"] for each in passes)
    usual_seconds = sum(each["passes"]["spinning"]["seconds"] for each in rounds)
    return (
        f"{said}; {stalled:.2f} % stalled; longest hold {hold:,.1f} µs; longer than p99 and a hold "
        f"{over} in {seconds:.1f} s, with nothing freed {usually_over} in {usual_seconds:.1f} s"
    )


def claim(rounds: Sequence[Measured], name: str) -> Claim:
    """Claim that a pass's longest fault takes at most p99 with nothing freed plus the longest hold.

    The median of the rounds is judged, because a busy host may stretch any single fault.
    """
    judged = []
    for passes in (each["passes"] for each in rounds):
        limit = passes["spinning"]["latencies"]["p99_ns"] + passes[name]["longest_hold_ns"]
        longest = passes[name]["latencies"]["max_ns"]
        judged.append((longest - limit, longest, limit))
    _excess, longest, limit = median_high(judged)
    return at_most(
        f"ns of the longest fault, {SHOWN[name]}: p99 of nothing freed and the longest hold",
        longest,
        limit,
    )


class _Faulting:
    """The faulting thread and its record; after its end `ordered` has its latencies, ascending."""

    def __init__(self, phase: bytearray) -> None:
        self._phase = phase
        self.ordered: dict[str, list[int]] = {}
        self.seconds = dict.fromkeys(SHOWN, 0.0)
        self.longest_release_ns = 0

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Let the other thread fault while the block runs, and count that for the pass `name`."""
        begin = monotonic()
        self._phase[0] = 1 + list(SHOWN).index(name)
        try:
            yield
        finally:
            self._phase[0] = 0
            self.seconds[name] += monotonic() - begin

    def free(
        self, name: str, memory: memoryview, levels: Sequence[str], tables: int, max_hold_ns: int
    ) -> Reclaimed:
        """Free the memory part by part, and spin before each: a busy host disturbs both alike."""
        done = Reclaimed()
        size = len(memory) // _PARTS
        for start in range(0, len(memory), size):
            with self.during("spinning"):
                _spin()
            with self.during(name):
                done += cleaning.reclaim(
                    memory[start : start + size], levels=levels, max_hold_ns=max_hold_ns
                )
        if done.freed.total < tables:
            raise CleanupError(f"of {tables} empty tables {done.freed.total} were freed")
        return done

    def round(self, freed: Mapping[str, Reclaimed]) -> Measured:
        """Return the figures of each pass of a round, by its name in SHOWN.

        `stalled_share` is the share of a pass's faults that took longer than p99 of the same
        round's faults with nothing freed.  The pass took `seconds`; in these `over_limit` faults
        took longer than that p99 plus the pass's longest hold.  `usual_over_limit` counts such
        faults with nothing freed, which only a busy host can have stretched.
        `longest_release_ns` is the longest time that the faulting thread took to give its pages
        back.
        """
        usual = self.ordered["spinning"]
        usual_ns = percentile(usual, 99)
        passes: Measured = {}
        for name, ordered in self.ordered.items():
            done = freed.get(name, Reclaimed())
            limit_ns = usual_ns + done.longest_hold_ns
            passes[name] = {
                "latencies": summary(ordered),
                "seconds": self.seconds[name],
                "stalled_share": count_above(ordered, usual_ns) / len(ordered),
                "over_limit": count_above(ordered, limit_ns),
                "usual_over_limit": count_above(usual, limit_ns),
                "freed": done.freed.total,
                "longest_hold_ns": done.longest_hold_ns,
            }
        return {"passes": passes, "longest_release_ns": self.longest_release_ns}


@contextmanager
def _faulting(pool: Executor, area: mmap) -> Iterator[_Faulting]:
    """Have the pool's one thread take page faults in each `during` of the with-block."""
    phase = bytearray(1)
    recorded = memoryview(array("Q", bytes(8 * _MOST_FAULTS * len(SHOWN))))
    rows = recorded.cast("B").cast("Q", (len(SHOWN), _MOST_FAULTS))
    faulting = _Faulting(phase)
    _faults.release(area)
    thread = pool.submit(_faults.record, area, rows, phase)
    try:
        yield faulting
    finally:
        phase[0] = 1 + len(SHOWN)
        counts, faulting.longest_release_ns = thread.result()
    for row, (name, count) in enumerate(zip(SHOWN, counts, strict=True)):
        if count in (0, _MOST_FAULTS):
            raise CleanupError(f"{count} faults, {SHOWN[name]}: too few or too many to judge by")
        first = row * _MOST_FAULTS
        faulting.ordered[name] = sorted(recorded[first : first + count])


def _spin() -> None:
    """Keep this CPU busy while nothing is freed: an idle one would let the other run faster."""
    end = monotonic() + _SPIN_SECONDS
    while monotonic() < end:
        pass


def _free_all(
    faulting: _Faulting, hold_ns: int, seed: int, tables: int, upper_tables: int
) -> dict[str, Reclaimed]:
    done: dict[str, Reclaimed] = {}
    with (
        sparse_mapping(-(-tables * UNIT // _GIB) * _GIB, seed=seed) as mapping,
        mapping.view[: tables * UNIT] as memory,
    ):
        for name, divisor in (("pte", 1), ("pte_quarter_hold", 4)):
            mapping.touch_and_release(0, tables)
            done[name] = faulting.free(name, memory, ("pte",), tables, hold_ns // divisor)
    with sparse_mapping(upper_tables * _GIB, seed=seed) as mapping:
        _faults.touch(mapping.view, stride=_GIB)
        _faults.release(mapping.view, stride=_GIB, span=PAGE)
        cleaning.reclaim(mapping.view, levels=("pte",))
        done["upper"] = faulting.free("upper", mapping.view, ("pmd", "pud"), upper_tables, hold_ns)
    return done


def _locks(area: mmap, seed: int) -> Measured:
    """Count the holds of the mmap lock for freeing and for faults, by the kernel's tracepoints.

    Since Linux 6.4 a fault needs its VMA's lock alone, and does not wait for the mmap lock.
    """
    tables = _GIB // UNIT
    with sparse_mapping(_GIB, seed=seed) as mapping:
        mapping.touch_and_release(0, tables)
        with trace.recorded() as freeing:
            cleaning.reclaim(mapping.view, levels=("pte",))
    _faults.release(area)
    with (
        memoryview(area) as view,
        view[: _TRACED_FAULTS * PAGE] as pages,
        trace.recorded() as faulting,
    ):
        _faults.touch(pages, stride=PAGE)
    return {
        "tables": tables,
        "write_holds": sum(hold.write for hold in freeing),
        "read_holds": sum(not hold.write for hold in freeing),
        "faults": _TRACED_FAULTS,
        "holds_per_fault": len(faulting) / _TRACED_FAULTS,
    }


@contextmanager
def _other_cpu() -> Iterator[Executor]:
    """Pin this thread to one CPU, and yield a pool of one thread that is pinned to another."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        raise CleanupError("two threads are to run at once: at least two CPUs are needed")
    mine, other = sorted(allowed)[:2]
    os.sched_setaffinity(0, {mine})
    try:
        with ThreadPoolExecutor(1, initializer=os.sched_setaffinity, initargs=(0, {other})) as pool:
            yield pool
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def _area() -> Iterator[mmap]:
    """Yield memory to fault on, in a VMA of its own, whose page tables are made already."""
    with mmap(-1, _AREA_BYTES, flags=MAP_PRIVATE | MAP_ANONYMOUS) as area:
        area.madvise(MADV_NOHUGEPAGE)
        # This makes the VMA differ from its neighbours, so that it is not merged with them.
        area.madvise(MADV_DONTFORK)
        _faults.touch(area, stride=PAGE)
        yield area


PART = Faults()
