# SPDX-License-Identifier: MIT
"""The program that is measured: it does what it is told, and waits.

    python -P -m experiments.allocators.program

Orders are lines of JSON on standard input, a list of a name and its arguments; each is answered
by one on standard output.  While it waits, its page tables can be counted.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from allocator_shim import jemalloc, preloaded
from cleanup.process import page_tables
from experiments.allocators import _give_back, _syscalls
from experiments.allocators._objects import Objects
from experiments.sparse import UNIT, SparseMapping, sparse_mapping

_TICK_SECONDS = 0.01
# So many steps between two looks at the clock.
_STEPS = 1000


class Program:
    """Each method is an order; what it returns is the answer."""

    def __init__(self) -> None:
        self._objects: Objects | None = None
        self._mapping: SparseMapping | None = None
        # Whatever is made stays for the life of the process.
        self._kept = ExitStack()

    def started(self) -> None:
        """Nothing: who has the answer knows that all is loaded."""

    def objects(self, room: int, most: int, seed: int, whole: bool) -> None:
        """Allocate as many, of up to `most` bytes each."""
        self._objects = Objects(room, most, seed, whole)
        self._objects.fill()

    def release(self, keep_every: int) -> None:
        """Free all objects but one in every `keep_every`."""
        self._heap.release(keep_every)

    def purge(self) -> None:
        """Have jemalloc give unused pages back now."""
        jemalloc.purge()

    def give_back(self) -> str:
        """Have whichever allocator it is give unused pages back now; by which function."""
        return _give_back.give_back()

    def dirty(self) -> int:
        """Unused pages that jemalloc has not given back yet."""
        arena = jemalloc.arena(jemalloc.ALL_ARENAS)
        return arena.dirty + arena.muzzy

    def work(self, seconds: float, room: int, most: int, seed: int) -> None:
        """Allocate and free a little, now and then."""
        small = Objects(room, most, seed)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            small.churn(_STEPS)
            time.sleep(_TICK_SECONDS)

    def churn(self, steps: int) -> int:
        """Free or allocate at random so often; CPU time of the process, in nanoseconds."""
        begun = time.process_time_ns()
        self._heap.churn(steps)
        return time.process_time_ns() - begun

    def mixed(self, steps: int, kept: Sequence[int]) -> int:
        """Churn, then free all but few, and purge, in turns; as of `churn`."""
        begun = time.process_time_ns()
        for keep in kept:
            self._heap.churn(steps // len(kept))
            self._heap.release(keep)
            jemalloc.purge()
            self._heap.fill()
        return time.process_time_ns() - begun

    def syscalls(self, times: int) -> int:
        """Ask nothing of the kernel, by syscall(), so often; as of `churn`."""
        begun = time.process_time_ns()
        _syscalls.ask(times)
        return time.process_time_ns() - begun

    def check(self) -> list[int]:
        """Return how many objects there are, and how many were found damaged so far."""
        return [self._heap.check(), self._heap.lost]

    def sparse(self, units: int, seed: int) -> float:
        """Write to one page in each unit and release it: empty tables stay.

        Returns the seconds that the releases took.
        """
        self._mapping = self._kept.enter_context(sparse_mapping(units * UNIT, seed=seed))
        seconds = 0.0
        stretch = 4096
        for first in range(0, units, stretch):
            last = min(first + stretch, units)
            self._mapping.touch(first, last)
            seconds += self._mapping.release(first, last)
        return seconds

    def zap(self) -> float:
        """One MADV_DONTNEED over all of that; the seconds it took."""
        assert self._mapping is not None  # noqa: S101 -- an order of ours
        begun = time.perf_counter()
        self._mapping.zap(0, self._mapping.units)
        return time.perf_counter() - begun

    def drain(self) -> None:
        """Have the library look at all that it noted."""
        preloaded.drain()

    def fork(self) -> list[int]:
        """Nanoseconds of a fork, and bytes of its child's page tables."""
        reading, writing = os.pipe()
        begun = time.perf_counter_ns()
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        taken = time.perf_counter_ns() - begun
        vmpte_bytes = page_tables(child).vmpte_bytes
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)
        return [taken, vmpte_bytes]

    def drained(self) -> list[int]:
        """PTE tables that the library freed, and nanoseconds that its drains took."""
        if not preloaded.available():
            return [0, 0]
        stats = preloaded.stats()
        return [stats.freed_pte, stats.ns]

    @property
    def _heap(self) -> Objects:
        assert self._objects is not None  # noqa: S101 -- an order of ours
        return self._objects


def main() -> None:
    """Obey until standard input ends."""
    program = Program()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        order: Callable[..., Any] = getattr(program, name)
        try:
            answer = {"answer": order(*arguments)}
        except (OSError, MemoryError) as error:
            answer = {"error": f"{name}: {error!r}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
