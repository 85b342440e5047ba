# SPDX-License-Identifier: MIT
"""Tests that PMD and PUD tables are freed once they are empty, and that no others are."""

import errno
import fcntl
import mmap
import os
import threading
from collections.abc import Callable

import pytest
from _raw import peek, poke

from cleanup import _uapi
from guest import abi
from guest.layout import (
    ANON,
    GIB,
    MADV_DONTNEED,
    MADV_NOHUGEPAGE,
    MADV_REMOVE,
    PAGE,
    PUD_SPAN,
    SHARED_ANON,
    UNIT,
    Area,
    aio_ring,
    area,
    child,
    madvise,
    map_at,
    memfd,
    reserved,
    unmap,
    userfaultfd,
    vmpte,
)

KVM_CREATE_VM = 0xAE01
PMD, PUD = _uapi.LEVELS["pmd"], _uapi.LEVELS["pud"]


def touch_each(made: Area, stride: int, value: int = 1) -> None:
    """Write to a page in each `stride` bytes."""
    poke(made.addr, made.length // stride, stride, value)


def release_each(made: Area, stride: int, advice: int = MADV_DONTNEED) -> None:
    """Give back the pages that `touch_each` wrote, by a call for each."""
    for offset in range(0, made.length, stride):
        madvise(made.addr + offset, PAGE, advice)


def test_empty_pmd_tables_are_freed_and_live_ones_kept() -> None:
    with area(8 * GIB // UNIT, align=GIB) as made:
        touch_each(made, GIB, 7)
        for index in range(7):
            madvise(made.addr + index * GIB, PAGE, MADV_DONTNEED)
        before = vmpte()
        answer = abi.call(abi.Args([made.span], levels=abi.ALL_LEVELS))
        assert (answer.tables, answer.freed) == (8, 7)
        assert (answer.upper_tables[0], answer.upper_freed) == (8, (7, 0))
        assert before - vmpte() == (7 + 7) * PAGE
        assert peek(made.addr, 8, GIB) == bytes(7) + b"\7"
        touch_each(made, GIB, 8)
        assert peek(made.addr, 8, GIB) == bytes([8] * 8)


@pytest.mark.parametrize("flags", [ANON, SHARED_ANON], ids=["private", "shared"])
def test_everything_above_a_mapping_goes(flags: int) -> None:
    with area(2 * PUD_SPAN // UNIT, flags, align=PUD_SPAN) as made:
        before_all = vmpte()
        touch_each(made, PUD_SPAN // 4)
        release_each(made, PUD_SPAN // 4, MADV_REMOVE if flags == SHARED_ANON else MADV_DONTNEED)
        before = vmpte()
        assert before - before_all == (8 + 8 + 2) * PAGE
        answer = abi.call(abi.Args([made.span], levels=abi.ALL_LEVELS))
        assert (answer.freed, answer.upper_freed) == (8, (8, 2))
        assert vmpte() == before_all
        touch_each(made, PUD_SPAN, 3)
        assert peek(made.addr, 2, PUD_SPAN) == b"\3\3"


def test_levels_choose() -> None:
    with area(4 * GIB // UNIT, align=GIB) as made:
        touch_each(made, GIB)
        release_each(made, GIB)
        # The PMD tables still hold entries, of empty PTE tables.
        answer = abi.call(abi.Args([made.span], levels=PMD | PUD))
        assert (answer.tables, answer.upper_tables[0], answer.upper_empty) == (0, 4, (0, 0))
        assert abi.call(abi.Args([made.span])).freed == 4
        answer = abi.call(abi.Args([made.span], levels=PUD))
        assert (answer.upper_tables[0], answer.upper_freed) == (0, (0, 0))
        answer = abi.call(abi.Args([made.span], levels=PMD))
        assert (answer.upper_empty, answer.upper_freed) == ((4, 0), (4, 0))


def test_holes_are_told_without_the_pte_level_too() -> None:
    with area(2 * GIB // UNIT, align=GIB) as made:
        map_at(made.addr, GIB, ANON)
        unmap(made.addr + 5 * PAGE, PAGE)
        refusal = abi.refused(abi.Args([made.span], levels=PMD))
        assert (refusal.errno, refusal.answer.holes) == (errno.ENOMEM, 1)


def test_outward_rounding_reaches_the_whole_pmd_table() -> None:
    with area(GIB // UNIT, align=GIB) as made:
        made.touch(first=100, count=1)
        made.release(100)
        abi.call(abi.Args([made.span]))
        answer = abi.call(abi.Args([(made.unit(400), PAGE)], levels=abi.ALL_LEVELS))
        assert (answer.upper_empty[0], answer.upper_freed[0]) == (1, 1)
        made.touch(first=100, count=1)
        answer = abi.call(abi.Args([(made.unit(400), PAGE)], levels=abi.ALL_LEVELS))
        assert (answer.upper_tables[0], answer.upper_empty[0]) == (1, 0)


def test_a_table_shared_by_files_and_anonymous_memory() -> None:
    quarter = GIB // 4
    with memfd(quarter) as file, reserved(GIB // UNIT, align=GIB) as made:
        map_at(made.addr, quarter, ANON)
        map_at(made.addr + quarter, quarter, mmap.MAP_SHARED, file)
        map_at(made.addr + 2 * quarter, quarter, SHARED_ANON)
        map_at(made.addr + 3 * quarter, quarter, mmap.MAP_PRIVATE, file)
        madvise(made.addr, made.length, MADV_NOHUGEPAGE)
        for piece in range(4):
            poke(made.addr + piece * quarter, 1, 1, piece + 1)
        for piece in range(4):
            answer = abi.call(abi.Args([made.span], levels=abi.ALL_LEVELS))
            assert answer.upper_freed == (0, 0)
            madvise(made.addr + piece * quarter, PAGE, MADV_DONTNEED)
        before = vmpte()
        answer = abi.call(abi.Args([made.span], levels=abi.ALL_LEVELS))
        assert (answer.freed, answer.upper_freed) == (1, (1, 0))
        assert before - vmpte() == 2 * PAGE
        assert peek(made.addr + quarter, 1, 1) == b"\2", "the memfd keeps its data"


def test_a_forbidding_vma_keeps_the_pmd_table() -> None:
    with area(2 * GIB // UNIT, align=GIB) as made:
        touch_each(made, GIB)
        release_each(made, GIB)
        with userfaultfd(made.unit(300), PAGE):
            answer = abi.call(abi.Args([made.span], levels=abi.ALL_LEVELS))
            assert (answer.freed, answer.upper_empty, answer.upper_freed) == (2, (2, 0), (1, 0))
            assert answer.skipped == {"vma": 1}
        assert abi.call(abi.Args([made.span], levels=PMD)).upper_freed == (1, 0)


def test_memory_that_may_not_expand_keeps_the_pmd_table() -> None:
    """mremap() may make a PTE table for just the end of an AIO ring, which is in the next GiB."""
    with area(2 * GIB // UNIT, align=GIB) as made:
        touch_each(made, GIB)
        release_each(made, GIB)
        with aio_ring(made.addr + GIB - UNIT, events=65536):
            args = abi.Args([(made.addr, PAGE)], levels=abi.ALL_LEVELS)
            answer = abi.call(args)
            assert (answer.freed, answer.upper_empty, answer.upper_freed) == (1, (1, 0), (0, 0))
            assert answer.skipped == {"vma": 1}
        assert abi.call(args).upper_freed == (1, 0)


def test_all_tables_of_a_process_are_seen() -> None:
    """The tables of all levels of a quiescent process add up to VmPTE, to the page."""

    def target(pause: Callable[[], None]) -> None:
        with area(8 * GIB // UNIT, align=GIB) as made:
            touch_each(made, GIB)
            release_each(made, 2 * GIB)
            pause()
            assert peek(made.addr, 8, GIB) == b"\0\1" * 4

    with child(target) as quiet:
        pidfd = os.pidfd_open(quiet.pid)
        args = abi.Args(flags=_uapi.WHOLE_MM | _uapi.SCAN_ONLY, levels=abi.ALL_LEVELS, pidfd=pidfd)
        found = abi.call(args)
        # khugepaged may have made anonymous huge pages: each has a deposited table.
        tables = found.tables + found.skipped.get("thp", 0) + sum(found.upper_tables)
        assert tables * PAGE == vmpte(quiet.pid)
        before = vmpte(quiet.pid)
        args.flags = _uapi.WHOLE_MM
        done = abi.call(args)
        os.close(pidfd)
        assert done.freed >= 4
        assert done.upper_freed[0] >= 4
        assert before - vmpte(quiet.pid) == (done.freed + sum(done.upper_freed)) * PAGE


def test_a_resumed_call_frees_the_same() -> None:
    with area(PUD_SPAN // UNIT, align=PUD_SPAN) as made:
        touch_each(made, 32 * GIB)
        release_each(made, 32 * GIB)
        args = abi.Args([made.span], levels=abi.ALL_LEVELS, max_tables=1)
        totals = [0, 0, 0]
        more = True
        while more:
            answer = abi.call(args)
            more = args.go_on(answer)
            freed = (answer.freed, *answer.upper_freed)
            assert sum(freed) <= 1
            totals = [total + count for total, count in zip(totals, freed, strict=True)]
        assert totals == [16, 16, 1]


def test_threads_that_fault_meanwhile_lose_nothing() -> None:
    """Two threads lose no write while a third frees the empty tables around their pages."""
    rounds, strides = 150, 64
    failures = []

    def busy(made: Area, lane: int) -> None:
        base = made.addr + lane * PAGE
        for turn in range(rounds):
            value = turn % 255 + 1
            poke(base, strides, GIB // 8, value)
            if peek(base, strides, GIB // 8) != bytes([value] * strides):
                failures.append((lane, turn))
            for index in range(strides):
                madvise(base + index * (GIB // 8), PAGE, MADV_DONTNEED)

    with area(8 * GIB // UNIT, align=GIB) as made:
        threads = [threading.Thread(target=busy, args=(made, lane)) for lane in range(2)]
        for thread in threads:
            thread.start()
        freed = [0, 0]
        while any(thread.is_alive() for thread in threads):
            answer = abi.call(abi.Args([made.span], levels=abi.ALL_LEVELS))
            freed = [freed[0] + answer.freed, freed[1] + answer.upper_freed[0]]
        for thread in threads:
            thread.join()
        assert failures == []
        assert min(freed) > 0, freed


def test_a_secondary_mmu_is_told(kvm: int) -> None:
    """Under KVM's mmu notifier, tables of all levels are freed, scattered and adjacent ones."""
    vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
    try:
        with area(4 * GIB // UNIT, align=GIB) as made:
            made.touch(7)
            made.release(*(index for index in range(made.units) if index % 7 not in (0, 1)))
            kept = sum(index % 7 in (0, 1) for index in range(made.units))
            answer = abi.call(abi.Args([made.span], levels=abi.ALL_LEVELS))
            assert answer.freed == made.units - kept
            expected = bytes(7 if index % 7 in (0, 1) else 0 for index in range(made.units))
            assert made.values() == expected
            made.release()
            answer = abi.call(abi.Args([made.span], levels=abi.ALL_LEVELS))
            assert answer.upper_freed[0] == 4
            peek(made.addr, 8, 3 * UNIT)
            made.touch(5, first=3, count=1)
            answer = abi.call(abi.Args([made.span], flags=_uapi.ZERO_PAGES))
            assert (answer.freed, answer.zero_pages_dropped) == (7, 7)
            assert made.values() == b"\0\0\0\5" + bytes(made.units - 4)
    finally:
        os.close(vm)
