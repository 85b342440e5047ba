# SPDX-License-Identifier: MIT
"""Tests of every kind of mapping: which tables are freed, and why others are skipped."""

import contextlib
import fcntl
import mmap
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from _raw import peek, poke

from cleanup import _uapi
from guest import abi
from guest.layout import (
    ANON,
    MADV_DONTNEED,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_REMOVE,
    PAGE,
    PROT_RW,
    SHARED_ANON,
    UNIT,
    Area,
    aio_ring,
    anon_huge_bytes,
    area,
    child,
    madvise,
    map_at,
    memfd,
    protect,
    punch_hole,
    reserved,
    userfaultfd,
    vmpte,
)


def test_shared_anonymous_memory() -> None:
    with area(32, SHARED_ANON) as made:
        made.touch(3)
        made.release(*range(16), advice=MADV_REMOVE)
        made.release(*range(16, 24))  # DONTNEED clears the entries; the pages stay
        before = vmpte()
        answer = abi.call(abi.Args([made.span]))
        assert (answer.tables, answer.freed, answer.skipped) == (32, 24, {"mapped": 8})
        assert before - vmpte() == 24 * PAGE
        assert made.values() == bytes(16) + bytes([3] * 16)


@pytest.mark.parametrize("flags", [mmap.MAP_SHARED, mmap.MAP_PRIVATE], ids=["shared", "private"])
def test_file_mapping(scratch: Path, flags: int) -> None:
    path = scratch / "file"
    with path.open("wb+") as file:
        file.truncate(16 * UNIT)
        for index in range(16):
            os.pwrite(file.fileno(), bytes([index + 1]), index * UNIT)
        with area(16, flags, file.fileno()) as made:
            assert made.values() == bytes(range(1, 17))
            poke(made.addr, 4, UNIT, 99)  # which copies these pages for a private mapping
            kept = range(4) if flags == mmap.MAP_PRIVATE else ()
            made.release(*(index for index in range(16) if index not in kept))
            answer = abi.call(abi.Args([made.span]))
            assert answer.freed == 16 - len(kept)
            assert made.values() == bytes([99] * 4) + bytes(range(5, 17))
    path.unlink()


def test_read_only_file_mapping_of_the_page_cache() -> None:
    """After a reclaim a fault maps the page cache's pages again, and reads what was there."""
    with Path(sys.executable).resolve().open("rb") as file, reserved(1) as made:
        map_at(made.addr, UNIT, mmap.MAP_PRIVATE, file.fileno(), prot=mmap.PROT_READ)
        expected = peek(made.addr, 8, 1)
        made.release()
        for page in range(16):
            madvise(made.addr + page * PAGE, PAGE, MADV_DONTNEED)
        assert abi.call(abi.Args([made.span])).freed == 1
        assert peek(made.addr, 8, 1) == expected


def test_table_shared_by_several_vmas_of_every_kind() -> None:
    """A table shared by VMAs of four kinds is freed once the last of them is emptied."""
    quarter = UNIT // 4
    with memfd(UNIT) as file, reserved(8) as made:
        for index in range(8):
            start = made.unit(index)
            map_at(start, quarter, ANON)
            map_at(start + quarter, quarter, mmap.MAP_SHARED, file)
            map_at(start + 2 * quarter, quarter, SHARED_ANON)
            map_at(start + 3 * quarter, quarter, mmap.MAP_PRIVATE, file)
        madvise(made.addr, made.length, MADV_NOHUGEPAGE)
        for piece in range(4):
            poke(made.addr + piece * quarter, 8, UNIT, piece + 1)
        for piece in range(4):
            answer = abi.call(abi.Args([made.span]))
            assert (answer.tables, answer.freed) == (8, 0), f"{piece} of 4 VMAs emptied"
            for index in range(8):
                madvise(made.unit(index) + piece * quarter, PAGE, MADV_DONTNEED)
        before = vmpte()
        answer = abi.call(abi.Args([made.span]))
        assert (answer.tables, answer.freed) == (8, 8)
        assert before - vmpte() == 8 * PAGE
        assert peek(made.addr + quarter, 8, UNIT) == bytes([2] * 8), "the memfd keeps its data"


def test_more_vmas_in_a_table_than_one_batch_can_lock(series: str) -> None:
    """A table that 64 files share is skipped where each file must be locked, and freed on 7.3."""
    with reserved(1) as made:
        piece = UNIT // 64
        with contextlib.ExitStack() as stack:
            for index in range(64):
                fd = stack.enter_context(memfd(piece))
                map_at(made.addr + index * piece, piece, mmap.MAP_SHARED, fd)
                poke(made.addr + index * piece, 1, 1, 1)
            for index in range(64):
                madvise(made.addr + index * piece, piece, MADV_DONTNEED)
            answer = abi.call(abi.Args([made.span]))
        if series == "7.3":
            assert answer.freed == 1
        else:
            assert (answer.freed, answer.skipped) == (0, {"too_many_locks": 1})


def test_memfd_with_punched_holes_in_two_processes_and_three_vmas() -> None:
    """One call for each process frees all tables emptied by holes; other bytes are unchanged."""
    units = 96
    third = units // 3 * UNIT + UNIT // 2  # so that a VMA ends in the middle of a unit
    contents = bytes(index % 251 + 1 for index in range(units))
    expected = bytes(0 if index % 2 else contents[index] for index in range(units))

    def map_three(made: Area, fd: int) -> None:
        length = made.length
        for start in (0, third, 2 * third):
            size = min(third, length - start)
            map_at(made.addr + start, size, mmap.MAP_SHARED, fd, start)
        # Another protection in the middle keeps the kernel from merging the three VMAs.
        protect(made.addr + third, third, PROT_RW | mmap.PROT_EXEC)
        madvise(made.addr, length, MADV_NOHUGEPAGE)

    def target(pause: Callable[[], None]) -> None:
        map_three(made, file)
        assert made.values() == contents
        pause()
        assert made.values() == expected

    with memfd(units * UNIT) as file, reserved(units) as made:
        map_three(made, file)
        for index in range(units):
            poke(made.unit(index), 1, 1, contents[index])
        with child(target) as other:
            for index in range(1, units, 2):
                punch_hole(file, index * UNIT, UNIT)
            pidfd = os.pidfd_open(other.pid)
            for pid, target_fd in (("self", -1), (str(other.pid), pidfd)):
                before = vmpte(pid)
                answer = abi.call(abi.Args([made.span], pidfd=target_fd))
                assert (answer.tables, answer.freed) == (units, units // 2)
                assert before - vmpte(pid) == units // 2 * PAGE
                assert abi.call(abi.Args([made.span], pidfd=target_fd)).empty == 0
            os.close(pidfd)
        assert made.values() == expected


def test_transparent_huge_pages_are_counted_and_kept() -> None:
    with reserved(4) as made:
        map_at(made.addr, made.length, ANON)
        madvise(made.addr, made.length, MADV_HUGEPAGE)
        made.touch(5)
        huge = anon_huge_bytes(made) // UNIT
        if not huge:
            pytest.skip("no huge page was to be had: transparent_hugepage/enabled is never")
        before = vmpte()
        answer = abi.call(abi.Args([made.span]))
        assert answer.skipped["thp"] == huge
        assert (answer.tables, answer.freed) == (4 - huge, 0)
        assert vmpte() == before
        assert made.values() == bytes([5] * 4)


def test_hugetlb_is_counted_and_kept() -> None:
    pool = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    pool.write_text("4")
    try:
        if int(pool.read_text()) < 4:
            pytest.skip("the guest has no four huge pages in a row left")
        with reserved(4) as made:
            map_at(made.addr, made.length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)
            made.touch(6)
            answer = abi.call(abi.Args([made.span]))
            assert (answer.tables, answer.skipped) == (0, {"hugetlb": 4})
            assert made.values() == bytes([6] * 4)
    finally:
        pool.write_text("0")


def _io_region() -> Path:
    for path in sorted(Path("/sys/bus/pci/devices").glob("*/resource[0-9]")):
        try:
            with path.open("rb+") as file, mmap.mmap(file.fileno(), PAGE):
                return path
        except (OSError, ValueError):
            continue
    pytest.skip("no PCI resource of this guest can be mapped")


def test_io_memory_keeps_the_table_it_shares() -> None:
    with reserved(2) as made, _io_region().open("rb+") as file:
        map_at(made.addr, made.length, ANON)
        madvise(made.addr, made.length, MADV_NOHUGEPAGE)
        made.touch()
        made.release()
        map_at(made.addr + UNIT - PAGE, PAGE, mmap.MAP_SHARED, file.fileno())
        answer = abi.call(abi.Args([made.span]))
        assert (answer.tables, answer.freed, answer.skipped) == (2, 1, {"pfnmap": 1})


def test_memory_that_may_not_expand_keeps_the_table_it_shares() -> None:
    with area(2) as made:
        made.touch()
        made.release()
        with aio_ring(made.unit(1) + UNIT // 2):
            answer = abi.call(abi.Args([made.span]))
            assert (answer.tables, answer.freed, answer.skipped) == (2, 1, {"pfnmap": 1})


def test_userfaultfd_on_any_overlapping_vma_keeps_the_table() -> None:
    with area(4) as made:
        made.touch()
        made.release()
        # The last page of unit 1 and the first of unit 2 lie in different tables.
        with userfaultfd(made.unit(2) - PAGE, 2 * PAGE):
            answer = abi.call(abi.Args([made.span]))
            assert (answer.tables, answer.freed, answer.skipped) == (4, 2, {"uffd": 2})
        assert abi.call(abi.Args([made.span])).freed == 2


def test_pages_poisoned_by_userfaultfd_are_never_touched(series: str) -> None:
    """A marker of UFFDIO_POISON keeps its table, even after the range is unregistered."""
    if series == "6.1":
        pytest.skip("UFFDIO_POISON is of Linux 6.6")
    poison = 0xC020AA08
    with area(2) as made:
        made.touch()
        made.release()
        with userfaultfd(made.addr, PAGE) as fd:
            fcntl.ioctl(fd, poison, bytearray(struct.pack("=QQQq", made.addr, PAGE, 0, 0)))
        answer = abi.call(abi.Args([made.span]))
        assert (answer.freed, answer.skipped) == (1, {"marker": 1})


def test_a_whole_process_is_walked_past_its_special_mappings() -> None:
    """The special mappings vvar and vdso, which every process has, are walked without harm."""
    answer = abi.call(abi.Args(flags=_uapi.WHOLE_MM))
    assert answer.next_range == 1
    assert os.times().elapsed > 0  # the clock is read through the vdso


def test_the_counts_add_up() -> None:
    """Each table seen is empty or skipped for a reason; each empty one is freed or skipped."""
    not_empty = {"mapped", "swap", "migration", "marker", "other", "uffd", "pfnmap"}
    not_freed = {"contended", "too_many_locks", "refilled", "changed"}
    with area(128) as made:
        made.touch()
        made.release(*range(0, 128, 3))
        with userfaultfd(made.unit(9), UNIT):
            for flags in (_uapi.SCAN_ONLY, 0):
                answer = abi.call(abi.Args(flags=flags | _uapi.WHOLE_MM))
                kept = sum(answer.skipped.get(name, 0) for name in not_empty)
                assert answer.tables == answer.empty + kept
                blocked = sum(answer.skipped.get(name, 0) for name in not_freed)
                if not flags:
                    assert answer.empty == answer.freed + blocked
