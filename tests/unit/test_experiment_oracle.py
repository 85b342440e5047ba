# SPDX-License-Identifier: MIT
"""Tests of the oracle: its counts on synthetic pagemaps, and the processes it refuses."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import _memory, oracle
from experiments.sparse import sparse_mapping

PAGE = 4096
UNIT = 2 << 20
GIB = 1 << 30
PRESENT = 1 << 63
SWAPPED = 1 << 62
SOFT_DIRTY = 1 << 55
# A pagemap has 8 bytes a page, so 2 GiB for each TiB; the files made here are sparse.
ADDRESSES = st.integers(min_value=0, max_value=(4 << 40) // PAGE - 1).map(lambda page: page * PAGE)


def write_pagemap(path: Path, entries: dict[int, int]) -> int:
    """Make a pagemap file with these entries, and holes elsewhere; return its descriptor."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.ftruncate(fd, (4 << 40) // PAGE * 8)
    for address, entry in entries.items():
        os.pwrite(fd, entry.to_bytes(8, "little"), address // PAGE * 8)
    return fd


def units_around(addresses: set[int]) -> list[tuple[int, int]]:
    """Return a VMA of 2 MiB around each address."""
    return sorted(
        {(address // UNIT * UNIT, address // UNIT * UNIT + UNIT) for address in addresses}
    )


@given(
    live=st.sets(ADDRESSES, max_size=40),
    empty=st.sets(ADDRESSES, max_size=40),
    entry=st.sampled_from([PRESENT, SWAPPED, PRESENT | SOFT_DIRTY, 1]),
)
def test_counts_what_was_built(
    tmp_path_factory: pytest.TempPathFactory, live: set[int], empty: set[int], entry: int
) -> None:
    """The oracle counts the tables in VmPTE for which the pagemap shows no entry."""
    tables = {address // UNIT for address in live | empty}
    upper = {address // GIB for address in live | empty}
    top = {address // (512 * GIB) for address in live | empty}
    vmpte = (len(tables) + len(upper) + len(top)) * PAGE
    entries = dict.fromkeys(empty, SOFT_DIRTY) | dict.fromkeys(live, entry)
    fd = write_pagemap(tmp_path_factory.mktemp("pagemap") / "pagemap", entries)
    try:
        found = oracle.Entries(oracle.read(fd, units_around(live | empty)))
    finally:
        os.close(fd)
    populated = [(address, address + PAGE) for address in empty]

    census = oracle.census(vmpte, found, populated)

    assert census.empty_pte == len(tables - {address // UNIT for address in live})
    assert census.empty == census.empty_pte + census.pmd_empty + census.pud_empty


def test_without_a_layout_upper_tables_count_as_empty() -> None:
    """Without the populated ranges, empty PMD and PUD tables are counted as PTE tables."""
    census = oracle.census(3 * PAGE, oracle.Entries(frozenset()))
    assert census.empty == census.empty_pte == 3


def test_huge_pages() -> None:
    """An anonymous huge page has a deposited table, which is not empty; a file's has none."""
    # One GiB holds a unit mapped by PTEs, two huge pages, and a unit with an empty table.
    entries = oracle.Entries(frozenset({0, 1, 2}), anonymous_huge=1, file_huge=1)
    census = oracle.census((2 + 1 + 1 + 1) * PAGE, entries)
    assert census.deposited == 1
    assert census.pte_live == 1
    assert census.empty_pte == 1


def test_a_unit_seen_by_two_mappings_counts_once(tmp_path: Path) -> None:
    """A PTE table that two VMAs share is counted once."""
    fd = write_pagemap(tmp_path / "pagemap", {0: PRESENT, UNIT // 2: PRESENT})
    try:
        assert oracle.read(fd, [(0, UNIT // 2), (UNIT // 2, UNIT)]) == {0}
    finally:
        os.close(fd)


def test_only_the_ranges_count(tmp_path: Path) -> None:
    """The oracle's ranges need not begin or end at the boundary of a unit."""
    fd = write_pagemap(tmp_path / "pagemap", {0: PRESENT, UNIT: PRESENT, 2 * UNIT: PRESENT})
    try:
        assert oracle.read(fd, [(PAGE, UNIT + PAGE)]) == {1}
    finally:
        os.close(fd)


def test_entries_of_the_zero_page_are_left_out_if_asked(tmp_path: Path) -> None:
    """Only units that map nothing but the zero page are left out; no swap entry is taken for it."""
    frame = 4711
    entries = {
        0: PRESENT | SOFT_DIRTY | frame,
        UNIT: PRESENT | frame,
        UNIT + PAGE: PRESENT | frame + 1,
        2 * UNIT: SWAPPED | frame,
        3 * UNIT: SWAPPED,  # Without privilege, pagemap shows no frames.
    }
    fd = write_pagemap(tmp_path / "pagemap", entries)
    try:
        ranges = [(0, 4 * UNIT)]
        assert oracle.read(fd, ranges) == {0, 1, 2, 3}
        assert oracle.read(fd, ranges, zero_frame=frame) == {1, 2, 3}
    finally:
        os.close(fd)


def test_a_pagemap_that_ends_early(tmp_path: Path) -> None:
    """A read that returns no bytes is the end of the pagemap."""
    path = tmp_path / "pagemap"
    path.write_bytes(b"")
    fd = os.open(path, os.O_RDONLY)
    try:
        assert oracle.read(fd, [(0, UNIT)]) == set()
    finally:
        os.close(fd)


def test_hugetlb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with hugetlb pages is refused: pagemap doesn't show which tables map them."""
    monkeypatch.setattr(oracle, "kilobytes", lambda _path: {"VmPTE": PAGE, "HugetlbPages": UNIT})
    with pytest.raises(oracle.OracleError, match="hugetlb"):
        oracle.observe(1)


def test_a_process_that_runs_meanwhile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are more entries than the tables can hold, tables were made during the count."""
    monkeypatch.setattr(oracle, "kilobytes", lambda _path: {"VmPTE": PAGE})
    with pytest.raises(oracle.OracleError, match="halt it first"):
        oracle.observe(os.getpid())


def test_who_runs_is_halted_meanwhile() -> None:
    """The oracle halts a busy process, and doesn't read its state from letters in its name."""
    program = """
import mmap, threading
def go_on():
    while True:
        with mmap.mmap(-1, 64 << 20) as area:
            area[::2 << 20] = bytes(32)
for _ in range(3):
    threading.Thread(target=go_on).start()
open("/proc/self/comm", "w").write("a) R (b")
print("on", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "on\n"
            counts = {oracle.observe_halted(process.pid).empty for _ in range(100)}
            assert min(counts) >= 0
            # The oracle stopped the process, and must have let it go on.
            before = sum(psutil.Process(process.pid).cpu_times())
            deadline = time.monotonic() + 60
            while sum(psutil.Process(process.pid).cpu_times()) == before:
                assert time.monotonic() < deadline, "it was left halted"
                time.sleep(0.1)
        finally:
            process.kill()


def test_units_outside_the_memory_are_refused() -> None:
    """The loops over memory check their bounds, and that the memory is still mapped."""
    with sparse_mapping(UNIT, seed=1) as mapping:
        for first, last in ((0, 2), (1, 0)):
            with pytest.raises(ValueError, match="not within"):
                mapping.touch(first, last)
    with pytest.raises(ValueError, match="released"):
        mapping.touch(0, 1)


def test_a_block_divides_two_mebibytes() -> None:
    """A release call covers whole pages, and never more than its unit."""
    with sparse_mapping(UNIT, seed=1) as mapping:
        for block in (0, 100, 3 * PAGE, 2 * UNIT):
            with pytest.raises(ValueError, match="does not divide"):
                _memory.Units(mapping.view, seed=1, block=block)
        with pytest.raises(ValueError, match="boundary"):
            _memory.Units(mapping.view[PAGE:], seed=1)


@given(unit=st.integers(min_value=0, max_value=1 << 19), seed=st.integers(0, 2**64 - 1))
def test_the_touched_page_is_in_its_unit(unit: int, seed: int) -> None:
    """The page touched in a unit depends only on the unit and the seed."""
    offset = _memory.touched_offset(unit, seed)
    assert offset % PAGE == 0
    assert offset // UNIT == unit
    assert offset == _memory.touched_offset(unit, seed)
