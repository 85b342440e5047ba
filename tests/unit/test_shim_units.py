# SPDX-License-Identifier: MIT
"""Tests of units: what is marked is taken once, in order, as merged runs, whatever their size."""

import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import _shim
import pytest
from _shim import ROOM, Units
from hypothesis import given
from hypothesis import strategies as st

HIGHEST = (1 << 36) - 1  # the last unit below 2^57
runs = st.tuples(st.integers(1, 2000) | st.integers(1, HIGHEST >> 1), st.integers(1, 300))


def members(found: list[tuple[int, int]]) -> set[int]:
    return {unit for first, count in found for unit in range(first, first + count)}


@given(st.lists(runs, max_size=40))
def test_what_is_marked_is_taken(marked: list[tuple[int, int]]) -> None:
    units = Units()
    for first, count in marked:
        assert units.mark(first, count) >= 0
    taken = units.take()
    assert members(taken) == members(marked)
    assert all(before[0] + before[1] < after[0] for before, after in pairwise(taken))
    assert units.take() == []


def test_only_what_is_new_counts() -> None:
    units = Units()
    assert units.mark(7, 1) == 1
    assert units.mark(7, 1) == 0
    assert units.mark(7, 5) == 4
    assert units.mark(7, 2) == 0
    assert units.take() == [(7, 5)]
    assert units.mark(7, 1) == 1


def test_nothing_is_no_unit() -> None:
    units = Units()
    assert units.mark(7, 0) == 0
    assert units.take() == []


def test_the_first_unit_and_the_longest_run_fit() -> None:
    units = Units()
    assert units.mark(0, 1) == 1
    assert units.mark(HIGHEST, 1) == 1
    assert units.mark(1, 1 << 40) == (1 << 28) - 1, "as long as a run can be"
    assert units.take() == [(0, 1 << 28), (HIGHEST, 1)]


def test_a_full_table_says_so_and_keeps_the_rest() -> None:
    units = Units()
    full = units.mark_each(1, 4 * ROOM, 2)
    assert full >= 3 * ROOM
    taken = units.take()
    assert len(taken) == 4 * ROOM - full
    assert units.mark(1, 1) == 1, "there is room again"


def test_neighbours_do_not_crowd() -> None:
    """The default threshold of 64 units fits into the table, whatever the distance between them."""
    for stride in (1, 2, 3, 8, 512, 1024, 1 << 18):
        units = Units()
        assert units.mark_each(1000, 64, stride) == 0, stride
        assert len(members(units.take())) == 64


def test_threads_lose_no_unit() -> None:
    units = Units()
    taken: set[int] = set()
    marked, threads = 200, 3
    full: list[int] = []
    going = True

    def mark(number: int) -> None:
        first = number * 100_000
        full.extend(units.mark_each(first + turn * 100, 3, 7) for turn in range(marked))

    def take() -> None:
        while going:
            taken.update(members(units.take()))

    workers = [threading.Thread(target=mark, args=(number,)) for number in range(threads)]
    taker = threading.Thread(target=take)
    for thread in (taker, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    going = False
    taker.join()
    taken |= members(units.take())
    assert len(taken) + sum(full) == threads * marked * 3


RELEASES = f"""
import sys
sys.path.insert(0, {str(Path(_shim.__file__).parent)!r})
from _shim import drain, released, start
page = int(sys.argv[1])
UNIT = page * page // 8
start(b"backend:null,threshold:1048576,interval_ms:86400000", page)
area = 64 << 30
# Any byte of a unit stands for all of it.
assert released(area, 1) == 1
assert released(area + UNIT - 1, 1) == 0
assert released(area + UNIT - page, page + 1) == 1
assert released(area + 2 * UNIT, 3 * UNIT) == 3
assert drain() == 5
# What unmapping leaves are the tables that neighbours share.
assert released(area + page, 4 * UNIT, True) == 2
assert released(area + 8 * UNIT, 4 * UNIT, True) == 0
# The kernel rounds a length up to pages: a byte below a unit's end makes the unit whole.
assert released(area + 12 * UNIT, UNIT - 1, True) == 0
assert released(area + 14 * UNIT, UNIT - page, True) == 1
# A tag in the top byte is no part of the address.
assert released(area + 20 * UNIT, page) == 1
assert released(area + 20 * UNIT | 0x5A << 56, page) == 0
assert drain() == 4
"""


@pytest.mark.parametrize("page", [4096, 16384, 65536])
def test_a_unit_is_what_a_table_maps(page: int) -> None:
    """One table maps 2 MiB where pages have 4 KiB, 32 MiB where 16 KiB, 512 MiB where 64 KiB."""
    ended = subprocess.run(
        [sys.executable, "-c", RELEASES, str(page)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
