# SPDX-License-Identifier: MIT
"""The parts of races with the module, and the delays that widen the windows of these races."""

import errno
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from _raw import peek, poke

from guest import abi
from guest.layout import MADV_DONTNEED, PAGE, madvise

DELAY = Path("/sys/module/delay/parameters")


class Inconclusive(Exception):
    """There was no race, so that the run says nothing about the module."""


class Race:
    """What a scenario gets: its time, its random numbers and its delays.

    The process is bound to CPU 0.  A thread that spins lets no other one run there, so that the
    other side of the race needs another CPU.  `kernel` is the kernel's series, such as "6.12".
    """

    def __init__(
        self, seed: int, seconds: float, delays: Callable[[], AbstractContextManager[None]]
    ) -> None:
        os.sched_setaffinity(0, {0})
        self.chance = random.Random(seed)
        self.delays = delays
        self.kernel = ".".join(os.uname().release.split(".")[:2])
        self._end = time.monotonic() + seconds

    def rounds(self) -> Iterator[int]:
        """Count rounds until the time is up; there is at least one."""
        yield 0
        number = 1
        while time.monotonic() < self._end:
            yield number
            number += 1


Scenario = Callable[[Race], None]
POINTS: dict[Scenario, tuple[str, ...]] = {}


def delayed(*points: str) -> Callable[[Scenario], Scenario]:
    """Declare where `delays` has a thread spin: at `CALLEE[@CALLER]:MICROSECONDS` points.

    CALLEE and CALLER may be several names, separated by `|`, as functions are renamed and inlined:
    the first one that the running kernel has is used.
    """

    def declared(scenario: Scenario) -> Scenario:
        POINTS[scenario] = points
        return scenario

    return declared


class Delays:
    """Delays at the points of all scenarios that a command is to play, none of them active yet.

    They replace the delays of the command before.  Only one CPU may be online when they are made,
    because that changes the kernel's code: under QEMU's TCG another CPU may run into a breakpoint
    that Linux has removed already.
    """

    def __init__(self, scenarios: Iterable[Scenario]) -> None:
        if DELAY.exists():
            subprocess.run(["rmmod", "delay"], check=True)
        wanted = [point for scenario in scenarios for point in POINTS.get(scenario, ())]
        self._points = list(dict.fromkeys(wanted))
        if not self._points:
            return
        with Path("/proc/kallsyms").open() as symbols:
            known = {name for _, kind, name, *_ in map(str.split, symbols) if kind in "tT"}
        at = ",".join(_resolved(point, known) for point in self._points)
        module = os.environ["PGTABLE_CLEANUP_DELAY_MODULE"]
        subprocess.run(["insmod", module, f"at={at}"], check=True)

    @contextmanager
    def of(self, scenario: Scenario) -> Iterator[None]:
        """Have this thread spin at the scenario's points; raise Inconclusive if it missed one."""
        numbers = [self._points.index(point) for point in POINTS[scenario]]
        before = self._hits()
        (DELAY / "active").write_text(str(sum(1 << number for number in numbers)))
        (DELAY / "tid").write_text(str(threading.get_native_id()))
        try:
            yield
        finally:
            (DELAY / "tid").write_text("0")
        after = self._hits()
        for number in numbers:
            if after[number] == before[number]:
                raise Inconclusive(f"{self._points[number]} was never passed")

    def _hits(self) -> list[int]:
        return [int(hits) for hits in (DELAY / "hits").read_text().split()]


def _resolved(point: str, known: Container[str]) -> str:
    place, _, us = point.partition(":")
    names = [
        next((name for name in names.split("|") if name in known), names)
        for names in place.split("@")
    ]
    return f"{'@'.join(names)}:{us}"


@contextmanager
def repeated(work: Callable[[], None], *, cpu: int = 1) -> Iterator[None]:
    """Repeat work in a thread on another CPU while the block runs; what it raises is re-raised."""
    stop = False
    failures: list[BaseException] = []

    def run() -> None:
        try:
            os.sched_setaffinity(0, {cpu})
            while not stop:
                work()
        except BaseException as failure:  # re-raised below, in the caller's thread
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop = True
        thread.join()
    if failures:
        raise failures[0]


class Freed:
    """The number of tables that `cleaned` has freed."""

    tables = 0


@contextmanager
def cleaned(args: abi.Args) -> Iterator[Freed]:
    """Call the module over and over beside the block; raise Inconclusive if it freed no table."""
    freed = Freed()

    def clean() -> None:
        try:
            answer = abi.call(args)
        except abi.Refused as refusal:
            # Locks were contended: the next call may get them.
            if refusal.errno != errno.EAGAIN:
                raise
            answer = refusal.answer
        freed.tables += answer.freed + sum(answer.upper_freed)

    with repeated(clean):
        yield freed
    if not freed.tables:
        raise Inconclusive("the module freed no table")


def write_and_release(
    addr: int, count: int, stride: int, race: Race, *, full: float = 0.0, empty: float = 0.0
) -> None:
    """Write pages, check them, and release them, so that their tables are empty again.

    The tables stay full for `full` seconds and empty for `empty` seconds, or longer.
    """
    value = race.chance.randrange(1, 256)
    poke(addr, count, stride, value)
    found = peek(addr, count, stride)
    assert found == bytes([value] * count), f"{found.hex()} where {value:02x} was written"
    time.sleep(full)
    for index in range(count):
        madvise(addr + index * stride, PAGE, MADV_DONTNEED)
    time.sleep(empty)
