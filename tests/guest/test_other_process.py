# SPDX-License-Identifier: MIT
"""Tests of calls for another process, by pidfd and by command line, and of who may make them."""

import errno
import json
import mmap
import os
import random
from collections.abc import Callable

import pytest
from _raw import peek, poke

import cleanup
from cleanup import _uapi
from guest import abi
from guest.identity import CAP_SYS_NICE, CAP_SYS_PTRACE, become_nobody, dumpable_nobody
from guest.layout import PAGE, UNIT, area, child, madvise, vmpte
from guest.others import command, in_fork


def errno_of_call(pid: int) -> int:
    """Make a call for another process, and return 0 or its errno."""
    pidfd = os.pidfd_open(pid)
    try:
        abi.call(abi.Args(flags=_uapi.WHOLE_MM, pidfd=pidfd))
    except abi.Refused as refusal:
        return refusal.errno
    return 0


def empty_tables(identity: Callable[[], None]) -> Callable[[Callable[[], None]], None]:
    """Return a child's work: take on an identity, and make 64 empty tables."""

    def target(pause: Callable[[], None]) -> None:
        identity()
        with area(64) as made:
            made.touch()
            made.release()
            pause()
            made.touch(9)
            assert made.values() == bytes([9] * 64)

    return target


def test_root_may() -> None:
    with child(empty_tables(dumpable_nobody)) as target:
        before = vmpte(target.pid)
        assert errno_of_call(target.pid) == 0
        assert before - vmpte(target.pid) >= 64 * PAGE


def test_without_cap_sys_nice_eperm() -> None:
    """EPERM comes before the ptrace check, even for one's own processes: see process_madvise()."""
    for identity in (dumpable_nobody, lambda: None):
        with child(empty_tables(identity)) as target:
            before = vmpte(target.pid)

            def caller(pid: int = target.pid) -> int:
                become_nobody()
                return errno_of_call(pid)

            assert in_fork(caller) == errno.EPERM
            assert vmpte(target.pid) == before


def test_ptrace_denied_eacces() -> None:
    with child(empty_tables(lambda: None)) as target:
        before = vmpte(target.pid)

        def caller() -> int:
            become_nobody(CAP_SYS_NICE)
            return errno_of_call(target.pid)

        assert in_fork(caller) == errno.EACCES
        assert vmpte(target.pid) == before


def test_cap_sys_nice_and_ptrace_access_suffice() -> None:
    for identity, capabilities in (
        (dumpable_nobody, (CAP_SYS_NICE,)),
        (lambda: None, (CAP_SYS_NICE, CAP_SYS_PTRACE)),
    ):
        with child(empty_tables(identity)) as target:

            def caller(pid: int = target.pid, capabilities: tuple[int, ...] = capabilities) -> int:
                become_nobody(*capabilities)
                return errno_of_call(pid)

            assert in_fork(caller) == 0


def test_scanning_anothers_layout_needs_the_same() -> None:
    with child(empty_tables(dumpable_nobody)) as target:

        def caller() -> int:
            pidfd = os.pidfd_open(target.pid)
            become_nobody()
            args = abi.Args(flags=_uapi.WHOLE_MM | _uapi.SCAN_ONLY, pidfd=pidfd)
            return abi.refused(args).errno

        assert in_fork(caller) == errno.EPERM


def test_itself_success_without_any_capability() -> None:
    def caller() -> int:
        become_nobody()
        return errno_of_call(os.getpid())

    assert in_fork(caller) == 0


def test_command_line_on_a_process_that_runs_and_touches_memory() -> None:
    units = 512
    stop = mmap.mmap(-1, PAGE)

    def busy(pause: Callable[[], None]) -> None:
        chance = random.Random(1)
        with area(units) as made:
            expected = bytearray(units)
            os.write(1, b"")
            made.touch()
            made.release()
            pause()
            while not stop[0]:
                index = chance.randrange(units)
                expected[index] = chance.randrange(1, 256)
                poke(made.unit(index), 1, 1, expected[index])
                other = chance.randrange(units)
                madvise(made.unit(other), PAGE, 4)
                expected[other] = 0
                assert peek(made.unit(index), 1, 1)[0] == expected[index]
            assert made.values() == bytes(expected)
            pause()

    with child(busy) as target:
        target.resume()
        freed = 0
        for _ in range(3):
            done = command("reclaim", str(target.pid), "--json")
            assert done.returncode == 0, done.stderr
            answer = json.loads(done.stdout)
            freed += answer["processes"][0]["result"]["freed"]["pte"]
        stop[0] = 1
        target.wait_ready()
        assert freed >= units // 2


def test_command_line_refusals() -> None:
    """A refused command exits with 1, and names the process and the missing capability."""
    with child(empty_tables(lambda: None)) as target:
        done = command("reclaim", target.pid, prepare=become_nobody)
        assert done.returncode == 1
        assert "CAP_SYS_NICE" in done.stderr
        assert str(target.pid) in done.stderr


def test_command_line_scan_dry_run_and_limits() -> None:
    with child(empty_tables(lambda: None)) as target:
        pid = str(target.pid)
        before = vmpte(target.pid)
        for arguments in (["scan", pid], ["reclaim", pid, "--dry-run"]):
            done = command(*arguments, "--json")
            assert done.returncode == 0, done.stderr
            result = json.loads(done.stdout)["processes"][0]["result"]
            assert result["empty"]["pte"] >= 64
            assert result["freed"]["pte"] == 0
        assert vmpte(target.pid) == before
        done = command("reclaim", pid, "--max-tables", "10", "--json")
        assert json.loads(done.stdout)["processes"][0]["result"]["freed"]["pte"] == 10
        assert before - vmpte(target.pid) == 10 * PAGE


def test_command_line_on_a_pid_that_is_gone() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    done = command("reclaim", str(pid))
    assert done.returncode == 1
    assert str(pid) in done.stderr


@pytest.mark.parametrize("verb", ["scan", "reclaim"])
def test_python_api_on_a_pid(verb: str) -> None:
    with child(empty_tables(lambda: None)) as target:
        result = getattr(cleanup, verb)(target.pid)
        assert result.complete
        assert result.empty.pte >= 64
        assert result.freed.pte == (result.empty.pte if verb == "reclaim" else 0)


def test_python_api_on_a_buffer() -> None:
    with mmap.mmap(-1, 64 * UNIT, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        for offset in range(0, 64 * UNIT, UNIT):
            memory[offset] = 1
        memory.madvise(mmap.MADV_DONTNEED, 0, 32 * UNIT)
        cleanup.scan(memory)  # a first call imports and allocates more than others
        before = cleanup.page_tables().vmpte_bytes
        freed = cleanup.reclaim(memory).freed
        # From 6.14 on, the kernel itself frees the tables of whole units.
        assert freed.pte <= 33
        # A PMD table is freed, too, if the mapping happens to cross a boundary of 1 GiB.
        assert before - cleanup.page_tables().vmpte_bytes == freed.total * PAGE
        assert memory[63 * UNIT] == 1
