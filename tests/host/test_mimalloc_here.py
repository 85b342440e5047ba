# SPDX-License-Identifier: MIT
"""Tests of what mimalloc's commit function can't do, for which this project has no hooks for it.

docs/howto/mimalloc.md says so. If one of these fails with a newer mimalloc, look at it anew.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.allocators.parts.mimalloc import wheel_library

SOURCE = Path(__file__).parent / "mimalloc_arena.c"
OBJECTS = 100_000
SMALL = 1000
# mimalloc 3.4 puts objects of this size in pages of 4 MiB: of more than one page table.
LARGE = 100_000

Found = dict[str, int]
Arena = Callable[..., Found]


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Arena:
    """Return a function that runs the program, and returns the figures that it prints."""
    program = tmp_path_factory.mktemp("mimalloc") / "arena"
    library = Path(wheel_library())
    linked: list[str | Path] = [SOURCE, library, f"-Wl,-rpath,{library.parent}"]
    subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-o", program, *linked], check=True)

    def run(mib: int, objects: int, size: int, when: str, **more: str) -> Found:
        ended = subprocess.run(
            [program, str(mib), str(objects), str(size), when],
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        words = ended.stdout.split()
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))

    return run


def test_an_arena_before_the_first_allocation_serves_all(arena: Arena) -> None:
    """The commit function works where the arena comes first, and is large enough."""
    found = arena(256, OBJECTS, SMALL, "first")
    assert found["inside"] == OBJECTS
    assert found["refused"] == found["uncommitted"] == found["damaged"] == 0


def test_an_arena_after_the_first_allocation_serves_none(arena: Arena) -> None:
    """mimalloc has made an arena by then, without a commit function, and uses that one first."""
    assert arena(256, OBJECTS, SMALL, "late")["inside"] == 0


def test_a_full_arena_does_not_grow(arena: Arena) -> None:
    """mimalloc makes the next one by itself, without a commit function."""
    found = arena(64, OBJECTS, SMALL, "first")
    assert 0 < found["inside"] < OBJECTS
    assert found["refused"] == 0


def test_a_heap_that_is_bound_to_an_arena_runs_out_of_memory(arena: Arena) -> None:
    found = arena(64, OBJECTS, SMALL, "own")
    assert found["inside"] > 0
    assert found["refused"] == OBJECTS - found["inside"] > 0


def test_mimalloc_uses_memory_that_it_has_not_committed(arena: Arena) -> None:
    """Hooks that believe the commit function would destroy objects, by an option of the user's."""
    objects = OBJECTS * SMALL * 3 // LARGE
    by_default = arena(1024, objects, LARGE, "first")
    assert by_default["uncommitted"] == by_default["damaged"] == 0
    by_demand = arena(1024, objects, LARGE, "first", MIMALLOC_PAGE_COMMIT_ON_DEMAND="1")
    assert by_demand["inside"] == objects
    assert by_demand["uncommitted"] > 1000
    assert by_demand["damaged"] > 0


def test_mimalloc_does_not_count_what_the_function_commits(arena: Arena) -> None:
    """A program that asks how much is committed would see that it has hooks."""
    mebibytes = OBJECTS * SMALL >> 20
    assert arena(256, OBJECTS, SMALL, "plain")["commit_mib"] >= mebibytes
    assert arena(256, OBJECTS, SMALL, "first")["commit_mib"] < mebibytes // 10
