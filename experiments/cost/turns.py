# SPDX-License-Identifier: MIT
"""Helpers that run what is compared in turns, and that time work in several threads at once."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Barrier
from typing import TypeVar

from experiments.part import Progress
from experiments.spread import rotated

S = TypeVar("S")
T = TypeVar("T")


def by_turns(
    names: Iterable[str],
    rounds: int,
    run: Callable[[str, int], T],
    *,
    progress: Progress,
    warm_up: bool = False,
) -> dict[str, list[T]]:
    """Run each name once a round, and return by name what its runs returned.

    Each round begins with another name. `run` gets the name and the number of the round. With
    `warm_up` one round goes before these, and its results are dropped.
    """
    found: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds + warm_up):
        warming = number < warm_up
        progress("warming up" if warming else f"run {number + 1 - warm_up} of {rounds}")
        for name in rotated(list(found), number):
            result = run(name, number)
            if not warming:
                found[name].append(result)
    return found


def cpu_ns(work: Callable[[S], object], each: Sequence[S]) -> int:
    """Run `work` on each item in a thread of its own, all at once; return the sum of CPU times.

    The sum is in nanoseconds, which are instructions in a guest that counts those. A single item
    runs in the calling thread: a new thread would take faults on its stack, which would count, too.
    """
    ready = Barrier(len(each))

    def begin(one: S) -> int:
        ready.wait()
        begun = time.thread_time_ns()
        work(one)
        return time.thread_time_ns() - begun

    if len(each) == 1:
        return begin(each[0])
    with ThreadPoolExecutor(len(each)) as pool:
        return sum(pool.map(begin, each))


@contextmanager
def shares(memory: memoryview, number: int) -> Iterator[Sequence[memoryview]]:
    """Yield views of equal shares of memory, and release them, so that it can be unmapped."""
    size = len(memory) // number
    with ExitStack() as stack:
        yield [
            stack.enter_context(memory[first : first + size])
            for first in range(0, size * number, size)
        ]
