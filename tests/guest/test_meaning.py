# SPDX-License-Identifier: MIT
"""Tests of the meaning of the call: one for each line of its definition.

A test makes a layout whose tables it can count, calls once, and checks what was freed, that every
byte left is as it was, and that VmPTE fell by exactly what was freed.
"""

import errno
import faulthandler
import mmap
import os
import signal
import threading
from collections.abc import Callable

import pytest
from _raw import peek, syscall

from cleanup import _uapi
from guest import abi
from guest.layout import (
    ANON,
    MADV_GUARD_INSTALL,
    MADV_NOHUGEPAGE,
    MADV_PAGEOUT,
    MADV_REMOVE,
    PAGE,
    PROT_NONE,
    PROT_RW,
    SHARED_ANON,
    SYS_MADVISE,
    SYS_MMAP,
    UNIT,
    Area,
    area,
    child,
    madvise,
    map_at,
    memfd,
    protect,
    reserved,
    unmap,
    vmpte,
)


def test_empty_tables_are_freed_and_live_ones_kept() -> None:
    with area(64) as made:
        made.touch(7)
        made.release(*range(1, 64))
        before = vmpte()
        answer = abi.call(abi.Args([made.span]))
        after = vmpte()
        assert (answer.tables, answer.empty, answer.freed) == (64, 63, 63)
        assert answer.skipped == {"mapped": 1}
        assert before - after == 63 * PAGE
        assert made.values() == bytes([7]) + bytes(63)


def test_scan_only_counts_and_frees_nothing() -> None:
    with area(16) as made:
        made.touch()
        made.release()
        before = vmpte()
        answer = abi.call(abi.Args([made.span], flags=_uapi.SCAN_ONLY))
        assert (answer.tables, answer.empty, answer.freed, answer.flushes) == (16, 16, 0, 0)
        assert vmpte() == before
        assert abi.call(abi.Args([made.span])).freed == 16


def test_a_freed_table_comes_back_on_the_next_fault() -> None:
    with area(8) as made:
        for value in (1, 2, 3):
            made.touch(value)
            assert made.values() == bytes([value] * 8)
            made.release()
            assert abi.call(abi.Args([made.span])).freed == 8
        assert made.values() == bytes(8)


def test_len_is_rounded_up_to_pages() -> None:
    with area(1) as made:
        made.touch()
        made.release()
        assert abi.call(abi.Args([(made.addr, 1)])).freed == 1


def test_len_0_does_nothing() -> None:
    with area(1) as made:
        made.touch()
        made.release()
        answer = abi.call(abi.Args([(made.addr, 0)]))
        assert (answer.next_range, answer.tables) == (1, 0)
        assert abi.call(abi.Args([])).tables == 0
        # An empty range is no hole either, though nothing is mapped there.
        assert abi.call(abi.Args([(0, 0)])).holes == 0


def test_outward_rounding_frees_a_table_that_the_range_only_touches() -> None:
    with area(3) as made:
        made.touch()
        made.release()
        middle = abi.Args([(made.unit(1) + 100 * PAGE, PAGE)])
        answer = abi.call(middle)
        assert (answer.tables, answer.freed) == (1, 1)
        across = abi.Args([(made.unit(1) - PAGE, UNIT + 2 * PAGE)])
        answer = abi.call(across)
        assert (answer.tables, answer.freed) == (2, 2)


def test_an_entry_outside_the_range_keeps_the_table() -> None:
    with area(1) as made:
        made.touch(9)
        answer = abi.call(abi.Args([(made.addr + UNIT // 2, PAGE)]))
        assert (answer.tables, answer.empty, answer.skipped) == (1, 0, {"mapped": 1})
        assert made.values() == b"\x09"


def test_only_where_a_live_vma_overlaps_the_table() -> None:
    with area(4) as made:
        made.touch()
        made.release()
        # Half of unit 1 is unmapped; its table is shared with what is left.
        unmap(made.unit(1), UNIT // 2)
        refusal = abi.refused(abi.Args([(made.unit(1), UNIT // 2)]))
        answer = refusal.answer
        assert (refusal.errno, answer.holes, answer.freed) == (errno.ENOMEM, 1, 1)
        # All of units 2 and 3 is unmapped: there is nothing to look at.
        unmap(made.unit(2), 2 * UNIT)
        refusal = abi.refused(abi.Args([(made.unit(2), 2 * UNIT)]))
        answer = refusal.answer
        assert (refusal.errno, answer.holes, answer.tables) == (errno.ENOMEM, 1, 0)


def test_holes_the_rest_is_done_then_enomem() -> None:
    with area(12) as made:
        made.touch()
        made.release()
        unmap(made.unit(3), 2 * UNIT)
        unmap(made.unit(8) + PAGE, PAGE)
        before = vmpte()
        refusal = abi.refused(abi.Args([made.span]))
        answer = refusal.answer
        assert refusal.errno == errno.ENOMEM
        assert (answer.holes, answer.freed, answer.next_range) == (2, 10, 1)
        assert before - vmpte() == 10 * PAGE


@pytest.mark.parametrize(
    ("hole_at", "hole_units"), [(0, 1), (5, 1), (0, 6)], ids=["first", "last", "all"]
)
def test_a_hole_at_either_end_is_enomem(hole_at: int, hole_units: int) -> None:
    with area(6) as made:
        made.touch()
        made.release()
        unmap(made.unit(hole_at), hole_units * UNIT)
        refusal = abi.refused(abi.Args([made.span]))
        answer = refusal.answer
        assert (refusal.errno, answer.holes, answer.freed) == (errno.ENOMEM, 1, 6 - hole_units)


def test_the_whole_address_space_knows_no_holes() -> None:
    with area(8) as made:
        made.touch()
        made.release()
        before = vmpte()
        answer = abi.call(abi.Args(flags=_uapi.WHOLE_MM))
        assert (answer.holes, answer.next_range) == (0, 1)
        assert answer.freed >= 8
        # VmPTE may fall by less than was freed: this process may have needed tables again.
        assert before - vmpte() >= 8 * PAGE


def test_swapped_out_data_is_never_touched(swap: None) -> None:
    with area(4) as made:
        made.touch(5)
        for index in range(4):
            madvise(made.unit(index), PAGE, MADV_PAGEOUT)
        made.release(3)
        answer = abi.call(abi.Args([made.span]))
        assert answer.skipped.get("swap", 0) >= 1, "MADV_PAGEOUT swapped nothing out"
        assert answer.skipped.get("swap", 0) + answer.skipped.get("mapped", 0) == 3
        assert answer.freed == 1
        assert made.values() == bytes([5, 5, 5, 0])


def test_guard_pages_are_never_touched(series: str) -> None:
    with area(3) as made:
        made.touch(4)
        try:
            for index in range(2):
                madvise(made.unit(index), PAGE, MADV_GUARD_INSTALL)
        except OSError as error:
            assert error.errno == errno.EINVAL
            assert series in ("6.1", "6.12")
            pytest.skip(f"Linux {series} has no guard pages (MADV_GUARD_INSTALL is of 6.13)")
        answer = abi.call(abi.Args([made.span]))
        assert (answer.freed, answer.skipped) == (0, {"marker": 2, "mapped": 1})
        assert os.waitstatus_to_exitcode(_status_of_reading(made.unit(1))) == -signal.SIGSEGV


def _status_of_reading(addr: int) -> int:
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()
        peek(addr, 1, 1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def test_prot_none_data_is_never_touched() -> None:
    with area(2) as made:
        made.touch(6)
        protect(made.addr, made.length, PROT_NONE)
        answer = abi.call(abi.Args([made.span]))
        assert (answer.freed, answer.skipped) == (0, {"mapped": 2})
        protect(made.addr, made.length, mmap.PROT_READ)
        assert made.values() == b"\x06\x06"


def test_kernels_answer_the_madvise_einval() -> None:
    with area(1) as made, pytest.raises(OSError, match="Invalid argument"):
        syscall(SYS_MADVISE, made.addr, UNIT, _uapi.MADV_CLEANUP_PGTABLE)


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGINT], ids=["SIGALRM", "SIGINT"])
def test_a_pending_signal_ends_the_call_after_its_batch(number: signal.Signals) -> None:
    """A signal has the call return 0 early; repeated calls with the same struct do the rest."""
    units = 4096
    caught = []
    previous = signal.signal(number, lambda *_: caught.append(1))
    try:
        with area(units) as made:
            made.touch()
            made.release()
            before = vmpte()
            args = abi.Args([made.span])
            freed = seen = calls = 0
            # A blocked signal would not end the call, so another thread sends unblocked ones.
            stop = threading.Event()
            sender = threading.Thread(target=_send_until, args=(stop, number))
            sender.start()
            try:
                more = True
                while more:
                    answer = abi.call(args)
                    more = args.go_on(answer)
                    freed, seen, calls = freed + answer.freed, seen + answer.tables, calls + 1
            finally:
                stop.set()
                sender.join()
            assert calls > 1, "no signal came during a call"
            assert caught
            assert (seen, freed) == (units, units)
            assert before - vmpte() >= units * PAGE - 16 * PAGE
    finally:
        signal.signal(number, previous)


def _send_until(stop: threading.Event, number: signal.Signals) -> None:
    main = threading.main_thread().ident
    assert main is not None
    while not stop.wait(0.001):
        signal.pthread_kill(main, number)


def test_sigkill_in_the_middle_leaves_the_target_intact() -> None:
    units = 8192

    def target(pause: Callable[[], None]) -> None:
        with area(units) as made:
            made.touch(3)
            made.release(*(index for index in range(units) if index % 64))
            report[:] = made.addr.to_bytes(8, "little")
            pause()
            assert all(made.values()[index] == 3 for index in range(0, units, 64))
            made.touch(8)
            assert made.values() == bytes([8] * units)

    report = memoryview(mmap.mmap(-1, PAGE))[:8]
    with child(target) as quiet:
        span = (int.from_bytes(report, "little"), units * UNIT)
        before = vmpte(quiet.pid)
        victim = os.fork()
        if victim == 0:
            pidfd = os.pidfd_open(quiet.pid)
            while True:
                # Each call frees one table, so that the kill comes in the middle for certain.
                abi.call(abi.Args([span], pidfd=pidfd, max_tables=1))
        while vmpte(quiet.pid) == before:
            pass
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        left = vmpte(quiet.pid)
        assert left < before
        assert left > before - units * PAGE
        pidfd = os.pidfd_open(quiet.pid)
        rest = abi.call(abi.Args([span], pidfd=pidfd))
        os.close(pidfd)
        assert left - vmpte(quiet.pid) == rest.freed * PAGE


def test_everything_blocked_by_contention_is_eagain(series: str) -> None:
    """The module doesn't wait for a table's second rmap lock, which other processes hold here."""
    if series == "7.3":
        pytest.skip("7.3 needs no rmap lock, so nothing can block a table")
    with memfd(UNIT) as first, memfd(UNIT) as second, reserved(1) as made:
        half = UNIT // 2
        map_at(made.addr, half, mmap.MAP_SHARED, first)
        map_at(made.addr + half, half, mmap.MAP_SHARED, second)
        hammers = [_hammer(second) for _ in range(4)]
        blocked = 0
        try:
            for _ in range(3000):
                made.touch()
                madvise(made.addr, half, MADV_REMOVE)
                try:
                    assert abi.call(abi.Args([made.span])).freed == 1
                except abi.Refused as refusal:
                    assert refusal.errno == errno.EAGAIN
                    assert refusal.answer.freed == 0
                    assert refusal.answer.skipped == {"contended": 1}
                    blocked += 1
                    if blocked == 3:
                        break
        finally:
            for pid in hammers:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        assert blocked, "the lock was never found taken"
        assert abi.call(abi.Args([made.span])).tables <= 1


def _hammer(fd: int) -> int:
    """Fork a process that takes the file's i_mmap lock for writing over and over."""
    pid = os.fork()
    if pid == 0:
        while True:
            addr = syscall(SYS_MMAP, 0, PAGE, PROT_RW, mmap.MAP_SHARED, fd, 0)
            unmap(addr, PAGE)
    return pid


def test_work_per_hold_is_bounded_in_time_and_in_tables() -> None:
    with area(2048) as made:
        made.touch()
        made.release()
        features = _uapi.features(fd := _uapi.open_device())
        os.close(fd)
        answer = abi.call(abi.Args([made.span], max_hold_ns=1))
        # Time is up after each table: each gets a flush of its own.
        assert answer.freed == answer.flushes == 2048
        made.touch()
        made.release()
        answer = abi.call(abi.Args([made.span]))
        assert answer.freed == 2048
        assert answer.flushes >= 2048 // features.batch


def test_max_tables_ends_the_call_and_the_cursor_goes_on() -> None:
    with area(300) as made:
        made.touch()
        made.release()
        args = abi.Args([made.span], max_tables=77)
        total = []
        more = True
        while more:
            answer = abi.call(args)
            more = args.go_on(answer)
            total.append(answer.freed)
        assert sum(total) == 300
        assert total[:3] == [77, 77, 77]


def test_vectored_ranges() -> None:
    with area(40) as made:
        made.touch()
        made.release()
        ranges = [(made.unit(index), PAGE) for index in range(0, 40, 2)]
        answer = abi.call(abi.Args(ranges))
        assert (answer.freed, answer.next_range) == (20, 20)
        assert abi.call(abi.Args([made.span])).freed == 20


def test_a_resumed_call_counts_no_hole_and_no_table_twice() -> None:
    with area(64) as made:
        made.touch()
        made.release()
        for index in range(4, 64, 8):
            unmap(made.unit(index) + PAGE, UNIT)  # this hole begins and ends inside units
        refusal = abi.refused(abi.Args([made.span], flags=_uapi.SCAN_ONLY))
        whole = refusal.answer
        assert refusal.errno == errno.ENOMEM
        args = abi.Args([made.span], flags=_uapi.SCAN_ONLY, max_tables=1)
        tables = holes = 0
        more = True
        while more:
            try:
                answer = abi.call(args)
            except abi.Refused as last:
                assert last.errno == errno.ENOMEM
                answer = last.answer
            tables, holes = tables + answer.tables, holes + answer.holes
            more = args.go_on(answer)
        assert (tables, holes) == (whole.tables, whole.holes) == (64, 8)


def test_a_hole_that_ends_where_a_call_stopped_is_counted() -> None:
    with area(3) as made:
        made.touch()
        made.release()
        unmap(made.unit(0) + PAGE, UNIT - PAGE)
        args = abi.Args([made.span], flags=_uapi.SCAN_ONLY, max_tables=1)
        answer = abi.call(args)
        assert (answer.tables, answer.holes, answer.next_addr) == (1, 1, made.unit(1))
        args.go_on(answer)
        args.max_tables = 0
        answer = abi.call(args)
        assert (answer.tables, answer.holes) == (2, 0)


def test_a_cursor_at_a_level_not_asked_for_ends_with_its_range() -> None:
    with area(8) as made:
        made.touch()
        made.release()
        ranges = [(made.unit(0), 4 * UNIT), (made.unit(6), UNIT)]
        args = abi.Args(ranges, next_level=1, next_addr=made.unit(2))
        answer = abi.call(args)
        # The tables between the two ranges are left alone.
        assert (answer.tables, answer.freed) == (1, 1)
        assert (answer.next_range, answer.next_level, answer.next_addr) == (2, 0, 0)
        assert abi.call(abi.Args([made.span])).freed == 7


def test_shared_and_private_maps_of_nothing_touched_have_no_tables() -> None:
    for flags in (ANON, SHARED_ANON):
        with area(32, flags) as made:
            answer = abi.call(abi.Args([made.span]))
            assert (answer.tables, answer.skipped) == (0, {})


def test_cost_follows_the_tables_not_the_address_range() -> None:
    """64 TiB with two tables are walked at once; in steps of 2 MiB it would take minutes."""
    units = (64 << 40) // UNIT
    with reserved(units) as made:
        map_at(made.addr, made.length, ANON)
        madvise(made.addr, made.length, MADV_NOHUGEPAGE)
        last = Area(made.unit(units - 1), 1)
        first = Area(made.addr, 1)
        for ends in (first, last):
            ends.touch()
            ends.release()
        answer = abi.call(abi.Args([made.span]))
        assert (answer.tables, answer.freed) == (2, 2)
