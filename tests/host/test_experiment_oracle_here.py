# SPDX-License-Identifier: MIT
"""Tests of the oracle on a real process: a child that halts while its tables are counted."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cleanup.proc import kilobytes
from experiments import oracle
from experiments.sparse import UNIT, SparseMapping, sparse_mapping

SIZE = 2 << 30
UNITS = SIZE // UNIT


@contextmanager
def halted_child(work: Callable[[SparseMapping], None]) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield a forked child that has done `work` on a mapping, and the mapping's addresses."""
    with sparse_mapping(SIZE, seed=7, every_page=False, block=4096) as mapping:
        ready, tell_ready = os.pipe()
        go_on, tell_go_on = os.pipe()
        child = os.fork()
        if child == 0:
            work(mapping)
            os.write(tell_ready, b"r")
            os.read(go_on, 1)
            os._exit(0)
        try:
            os.read(ready, 1)
            yield child, mapping.range
        finally:
            os.write(tell_go_on, b"g")
            os.waitpid(child, 0)
            for fd in (ready, tell_ready, go_on, tell_go_on):
                os.close(fd)


def empty_tables(work: Callable[[SparseMapping], None]) -> int:
    """Return how many more empty PTE tables a child has with `work` than without it."""
    with halted_child(nothing) as (child, _):
        before = oracle.observe(child).empty_pte
    with halted_child(work) as (child, addresses):
        return oracle.observe(child, [addresses]).empty_pte - before


def nothing(_mapping: SparseMapping) -> None:
    """Leave the mapping alone."""


def touch_all(mapping: SparseMapping) -> None:
    """Touch a page in each unit."""
    mapping.touch(0, UNITS)


def touch_all_release_half(mapping: SparseMapping) -> None:
    """Touch a page in each unit, and release the first half, whose tables become empty."""
    mapping.touch(0, UNITS)
    mapping.release(0, UNITS // 2)


def test_half_released() -> None:
    """Releases of 4 KiB free no table on any kernel, and leave half of the tables empty."""
    assert empty_tables(touch_all_release_half) == UNITS // 2


def test_all_live() -> None:
    """A table with one page in it is not empty."""
    assert empty_tables(touch_all) == 0


def read_all_write_half(mapping: SparseMapping) -> None:
    """Read a page of each unit, which maps the zero page; write another in the second half."""
    assert not any(mapping.page(unit)[0] for unit in range(UNITS))
    for unit in range(UNITS // 2, UNITS):
        mapping.view[unit * UNIT + UNIT - 1] = 1


def test_zero_pages_are_entries_unless_asked_otherwise() -> None:
    """A table that maps nothing but zero pages counts as empty if `zero_pages` is false."""
    with halted_child(nothing) as (child, _):
        before = [oracle.observe(child, zero_pages=count).empty_pte for count in (True, False)]
    with halted_child(read_all_write_half) as (child, addresses):
        after = [
            oracle.observe(child, [addresses], zero_pages=count).empty_pte
            for count in (True, False)
        ]
    assert after[0] - before[0] == 0
    assert after[1] - before[1] == UNITS // 2


@pytest.mark.skipif(os.geteuid() != 0, reason="page frames are shown to root alone")
def test_both_ways_of_finding_zero_pages_agree(pagemap: int) -> None:
    """PAGEMAP_SCAN and kpageflags agree which pages are the zero page."""
    with sparse_mapping(SIZE, seed=7) as mapping:
        read_all_write_half(mapping)
        start, end = mapping.range
        first = start // UNIT
        written = set(range(first + UNITS // 2, first + UNITS))
        frame = oracle.zero_frame()
        assert oracle.read(pagemap, [mapping.range], zero_frame=frame) == written
        try:
            scanned = oracle.scanned(pagemap, [(start, end)], zero_pages=False)
        except OSError as error:
            pytest.skip(f"PAGEMAP_SCAN came with Linux 6.7: {error}")
        assert scanned.units == written


@pytest.fixture
def pagemap() -> Iterator[int]:
    """Open this process's own pagemap."""
    fd = os.open("/proc/self/pagemap", os.O_RDONLY)
    yield fd
    os.close(fd)


def test_both_ways_of_reading_agree(pagemap: int) -> None:
    """PAGEMAP_SCAN and reading the pagemap find the same units."""
    with sparse_mapping(SIZE, seed=7, every_page=False, block=4096) as mapping:
        touch_all_release_half(mapping)
        start, end = mapping.range
        inside = start + UNITS // 3 * UNIT + 4096
        ranges = [(start, inside), (inside, end)]
        try:
            scanned = oracle.scanned(pagemap, ranges)
        except OSError as error:
            pytest.skip(f"PAGEMAP_SCAN came with Linux 6.7: {error}")
        first = start // UNIT
        assert scanned.units == set(range(first + UNITS // 2, first + UNITS))
        assert oracle.read(pagemap, ranges) == scanned.units
        assert scanned.anonymous_huge == scanned.file_huge == 0


def test_vmpte_is_whole_tables() -> None:
    """VmPTE is a multiple of 4 KiB, so the oracle gets a whole number of tables from it."""
    with halted_child(nothing) as (child, _):
        vmpte = kilobytes(Path(f"/proc/{child}/status"))["VmPTE"]
        assert oracle.observe(child).tables * 4096 == vmpte
