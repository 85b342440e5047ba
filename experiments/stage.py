# SPDX-License-Identifier: MIT
"""The stage a workload runs on: it takes the figures of each phase and frees tables.

Each workload runs twice in its process. What a first run alone does, such as growing the heap,
would show in VmPTE, so a smaller rehearsal goes before the run proper.
"""

import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cleanup
from cleanup import _uapi
from cleanup.proc import tlb_shootdowns
from experiments import _memory
from experiments.sparse import UNIT, Bounds

_COUNTED = ("freed", "skipped", "flushes", "longest_hold_ns")


class Stage:
    """The calls by which a workload has itself measured and its page tables freed.

    `pids` are further processes that map the workload's memory at the same addresses. They halt
    with this one, their figures are added to this one's, and the module cleans them, too.
    """

    def __init__(self, method: str, *, zero_pages: bool) -> None:
        self._method, self._zero_pages = method, zero_pages
        self.pids: Sequence[int] = ()
        self.report: dict[str, Any] = {}

    def measure(self, phase: str, seconds: float = 0.0) -> None:
        """Take the figures of `start` or `touched`, whose work took `seconds`.

        A phase that is met again keeps the highest VmPTE, and the sum of the seconds.
        """
        raise NotImplementedError

    def clean(self, mapped: Bounds, empty: Sequence[Bounds], seconds: float = 0.0) -> None:
        """Measure the phase `released`, then free page tables, then measure the phase `cleaned`.

        `mapped` are the addresses of the mapping, every GiB of which has held a page; `empty` are
        the runs of 2 MiB units, counted from the first whole one, that hold no data. The release
        took `seconds`. Raises OSError.
        """
        raise NotImplementedError

    def _free(self, mapped: Bounds, empty: Sequence[Bounds]) -> dict[str, Any]:
        """Free tables by the method; return the module's counts if it is the method.

        A zap frees tables of this process alone.
        """
        start, end = mapped
        if self._method == "module":
            ranges = [cleanup.Range(start, end - start)]
            own, *others = (
                cleanup.reclaim(pid, ranges=ranges, zero_pages=self._zero_pages)
                for pid in (os.getpid(), *self.pids)
            )
            done = sum(others, own).to_json()
            return {name: done[name] for name in _COUNTED}
        if self._method == "zap":
            first_unit = -(-start // UNIT) * UNIT
            for first, last in empty:
                _uapi.madvise(first_unit + first * UNIT, (last - first) * UNIT, mmap.MADV_DONTNEED)
        return {}


class Rehearsal(Stage):
    """The rehearsal, which measures nothing but the TLB shootdowns of the cleaning.

    A second thread keeps another CPU busy meanwhile: without it, no flush sends an interrupt. The
    run proper is timed without that thread: where an emulator runs the CPUs on a busy host, each
    interrupt waits until the host schedules the CPU it is for.
    """

    def measure(self, _phase: str, _seconds: float = 0.0) -> None:
        """Do nothing."""

    def clean(self, mapped: Bounds, empty: Sequence[Bounds], _seconds: float = 0.0) -> None:
        """Free page tables, and report the TLB shootdowns that this takes."""
        with second_thread():
            before = tlb_shootdowns()
            self._free(mapped, empty)
            self.report["tlb_shootdowns"] = tlb_shootdowns() - before
        self.report["tlb_tables"] = sum(last - first for first, last in empty)


class Performance(Stage):
    """The run proper: at each phase it calls `halt`, which returns once the figures are taken."""

    def __init__(self, method: str, halt: Callable[..., None], *, zero_pages: bool) -> None:
        super().__init__(method, zero_pages=zero_pages)
        self._halt = halt

    def measure(self, phase: str, seconds: float = 0.0, populated: Sequence[Bounds] = ()) -> None:
        """Halt, and tell that every GiB of the ranges `populated` has held a page."""
        self._halt(phase=phase, seconds=seconds, populated=populated, pids=self.pids)

    def clean(self, mapped: Bounds, empty: Sequence[Bounds], seconds: float = 0.0) -> None:
        """Halt, free page tables, report the module's counts, and halt once more."""
        self.measure("released", seconds, [mapped])
        begin = time.monotonic()
        self.report |= self._free(mapped, empty)
        seconds = time.monotonic() - begin
        # The module frees upper tables too: the oracle must not take them for present.
        self.measure("cleaned", seconds, [] if self._method == "module" else [mapped])


@contextmanager
def second_thread() -> Iterator[None]:
    """Keep a CPU busy with another thread of this process until the block ends.

    This thread stays on another CPU meanwhile, if there is one: on a busy machine the kernel may
    leave both on one, where nothing is sent to another.
    """
    allowed = sorted(os.sched_getaffinity(0))
    stop, begun = bytearray(1), threading.Event()

    def spin() -> None:
        os.sched_setaffinity(0, {allowed[-1]})
        begun.set()
        _memory.spin(stop)

    os.sched_setaffinity(0, {allowed[0]})
    thread = threading.Thread(target=spin)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        stop[0] = 1
        thread.join()
        os.sched_setaffinity(0, allowed)
