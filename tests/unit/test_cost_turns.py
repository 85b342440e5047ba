# SPDX-License-Identifier: MIT
"""Tests of how compared things are run: in which order, and by how many threads at once."""

import mmap
import threading
import time

from experiments.cost import turns


def test_turns_begin_with_another_each() -> None:
    """Each round begins with another name; the warm-up is reported, but its results are dropped."""
    ran: list[str] = []
    said: list[str] = []

    def run(name: str, number: int) -> str:
        ran.append(f"{name}{number}")
        return ran[-1]

    found = turns.by_turns(["a", "b"], 2, run, progress=said.append, warm_up=True)
    assert ran == ["a0", "b0", "b1", "a1", "a2", "b2"]
    assert found == {"a": ["a1", "a2"], "b": ["b1", "b2"]}
    assert said == ["warming up", "run 1 of 2", "run 2 of 2"]
    assert turns.by_turns("ab", 1, run, progress=said.append) == {"a": ["a0"], "b": ["b0"]}


def test_threads_run_at_once() -> None:
    """cpu_ns() runs its threads at once: they can wait for each other, which takes no CPU time."""
    all_there = threading.Barrier(3, timeout=60)
    ran = []

    def work(one: int) -> None:
        all_there.wait()
        time.sleep(0.2)
        ran.append(one)

    assert 0 < turns.cpu_ns(work, [1, 20, 300]) < 150_000_000
    assert sorted(ran) == [1, 20, 300]


def test_the_time_is_all_threads() -> None:
    def work(seconds: float) -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    assert turns.cpu_ns(work, [0.02, 0.03]) >= 50_000_000


def test_shares_are_equal_and_end_before_their_mapping() -> None:
    with mmap.mmap(-1, 8 * mmap.PAGESIZE) as memory, memoryview(memory) as view:
        with turns.shares(view, 4) as parts:
            assert [len(part) for part in parts] == [2 * mmap.PAGESIZE] * 4
            for number, part in enumerate(parts):
                part[0] = number
        assert list(view[:: 2 * mmap.PAGESIZE]) == [0, 1, 2, 3]
        # `parts` still names the views here: mmap.close() would fail if they were not released.
