# SPDX-License-Identifier: MIT
"""The program that is measured: it does what it is told, and waits.

    python -P -m experiments.allocators.program

An order is a line of JSON on standard input: a list of a name and its arguments.  The answer is
a line on standard output, with the CPU time that the order took.  While the program waits, its
page tables can be counted.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from operator import attrgetter
from pathlib import Path
from typing import Any

from allocator_shim import jemalloc, preloaded
from cleanup.proc import kilobytes
from cleanup.process import page_tables
from experiments.allocators import _libc_calls
from experiments.allocators._objects import Objects
from experiments.sparse import UNIT, SparseMapping, sparse_mapping

_TICK_SECONDS = 0.01
# `work` looks at the clock after this many steps.
_STEPS = 1000


class Program:
    """The orders of the program: the methods of this class, of `heap`, `jemalloc` and `libc`.

    What an order returns is its answer.
    """

    jemalloc = jemalloc
    libc = _libc_calls
    heap: Objects
    _mapping: SparseMapping

    def __init__(self) -> None:
        # The mappings entered here stay for the life of the process.
        self._kept = ExitStack()
        self._heaps: list[Objects] = []

    def started(self) -> None:
        """Do nothing: the answer alone says that the program has started."""

    def objects(self, room: int, most: int, seed: int, whole: bool) -> None:
        """Make the heap: allocate `room` objects of up to `most` bytes each."""
        self.heap = Objects(room, most, seed, whole)
        self.heap.fill()

    def objects_in_threads(self, threads: int, room: int, most: int, seed: int) -> None:
        """Make a heap in each of so many threads, which live at the same time.

        jemalloc gives a new thread the arena that has the fewest threads.
        """
        all_filled = threading.Barrier(threads)

        def fill(number: int) -> None:
            heap = Objects(room, most, seed + number)
            heap.fill()
            self._heaps.append(heap)
            all_filled.wait()

        workers = [threading.Thread(target=fill, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def memory(self) -> dict[str, int]:
        """Return the bytes of anonymous memory and of page tables of this process."""
        status = kilobytes(Path("/proc/self/status"))
        return {name: status[name] for name in ("RssAnon", "VmPTE")}

    def dirty(self) -> int:
        """Return how many unused pages jemalloc has not given back yet."""
        arena = jemalloc.arena(jemalloc.ALL_ARENAS)
        return arena.dirty + arena.muzzy

    def work(self, seconds: float, room: int, most: int, seed: int) -> None:
        """Allocate and free a little now and then, for `seconds`."""
        small = Objects(room, most, seed)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            small.churn(_STEPS)
            time.sleep(_TICK_SECONDS)

    def mixed(self, steps: int, kept: Sequence[int]) -> None:
        """For each number in `kept`, churn, free all but one object in that many, purge, refill."""
        for keep in kept:
            self.heap.churn(steps // len(kept))
            self.heap.release(keep)
            jemalloc.purge()
            self.heap.fill()

    def check(self) -> list[int]:
        """Return how many objects there are, and how many were found damaged so far."""
        return [self.heap.check(), self.heap.lost]

    def sparse(self, units: int, seed: int) -> None:
        """Write to one page in each unit and release it: empty tables stay."""
        self._mapping = self._kept.enter_context(sparse_mapping(units * UNIT, seed=seed))
        self._mapping.touch_and_release(0, units)

    def zap(self) -> float:
        """Release the whole mapping by one MADV_DONTNEED, and return the seconds that it took."""
        begun = time.perf_counter()
        self._mapping.zap(0, self._mapping.units)
        return time.perf_counter() - begun

    def fork(self) -> list[int]:
        """Fork, and return the nanoseconds that took and the bytes of the child's page tables."""
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
        """Return how many PTE tables the library freed, and the nanoseconds of its drains."""
        if not preloaded.available():
            return [0, 0]
        stats = preloaded.stats()
        return [stats.freed_pte, stats.ns]


def main() -> None:
    """Carry out orders until standard input ends."""
    program = Program()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        order: Callable[..., Any] = attrgetter(name)(program)
        try:
            begun = time.process_time_ns()
            answer = {"answer": order(*arguments), "cpu_ns": time.process_time_ns() - begun}
        except (OSError, MemoryError) as error:
            answer = {"error": f"{name}: {error!r}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
