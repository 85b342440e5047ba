# SPDX-License-Identifier: MIT
"""Tests of the TLB shootdowns that a reclaim costs others, and of the memory it gives back."""

import mmap
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cleanup import _uapi
from cleanup.proc import pagetables_bytes, tlb_shootdowns
from experiments import _memory
from guest import abi
from guest.layout import PAGE, area, child, vmpte


def test_shootdowns_are_batched() -> None:
    """A thread on another CPU is interrupted once for each flush, not once for each table."""
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one CPU has nobody to interrupt")
    stop = bytearray(1)
    spinner = threading.Thread(target=_memory.spin, args=(stop,))
    spinner.start()
    try:
        with area(4096) as made:
            made.touch()
            made.release()
            # On a busy host a hold takes longer than usual: time must not end it here.
            args = abi.Args([made.span], max_hold_ns=2**63)
            fd = _uapi.open_device()
            before = tlb_shootdowns()
            answer = abi.call(args, fd)
            after = tlb_shootdowns()
            os.close(fd)
            assert answer.freed == 4096
            assert answer.flushes <= 4096 // 64
            # Other work interrupts the CPU now and then; one shootdown a table would be 4096.
            assert 0 < after - before <= 2 * 4096 // 64, f"{answer.flushes} flushes"
    finally:
        stop[0] = 1
        spinner.join()


def map_and_unmap(stop: bytearray) -> None:
    """Want the mmap lock for writing all the time, and hardly ever get a CPU to take it on."""
    os.sched_setaffinity(0, {1})
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    while not stop[0]:
        mmap.mmap(-1, PAGE).close()


def spin_on_its_cpu(stop: bytearray) -> None:
    os.sched_setaffinity(0, {1})
    _memory.spin(stop)


@contextmanager
def waiting_for_the_mmap_lock() -> Iterator[None]:
    """Have a thread wait for the mmap lock, on a CPU that it hardly ever gets."""
    stop = bytearray(1)
    others = [
        threading.Thread(target=work, args=(stop,)) for work in (map_and_unmap, spin_on_its_cpu)
    ]
    for other in others:
        other.start()
    try:
        yield
    finally:
        stop[0] = 1
        for other in others:
            other.join()


def test_who_waits_for_the_mmap_lock_is_not_interrupted_for_each_table() -> None:
    """A hold of the scan ends where others want the lock, but the batch for one flush does not."""
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one CPU has nobody to interrupt")
    tables = 1024
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {0})
    try:
        for _ in range(4):
            with area(tables) as made:
                made.touch()
                made.release()
                # Beside it the two lines above take minutes on a busy machine: the other thread
                # has the lock most of the time, and no CPU to give it back on.
                with waiting_for_the_mmap_lock():
                    answer = abi.call(abi.Args([made.span], max_hold_ns=2**63))
                assert answer.freed == tables
                assert answer.flushes <= tables // 64
    finally:
        os.sched_setaffinity(0, cpus)


def test_freed_tables_are_the_fall_of_vmpte_and_of_the_whole_guest() -> None:
    units = 8192

    def target(pause: Callable[[], None]) -> None:
        with area(units) as made:
            made.touch()
            made.release(*range(0, units, 2))
            pause()

    with child(target) as quiet:
        pidfd = os.pidfd_open(quiet.pid)
        before, host_before = vmpte(quiet.pid), pagetables_bytes()
        answer = abi.call(abi.Args(flags=_uapi.WHOLE_MM, pidfd=pidfd))
        os.close(pidfd)
        assert answer.freed >= units // 2
        assert before - vmpte(quiet.pid) == answer.freed * PAGE
        # The tables are freed after an RCU grace period; other processes add or free a few.
        for _ in range(100):
            fall = host_before - pagetables_bytes()
            if abs(fall - answer.freed * PAGE) <= 64 * PAGE:
                break
            threading.Event().wait(0.05)
        else:
            raise AssertionError(f"PageTables fell by {fall}, not by {answer.freed * PAGE}")
