# SPDX-License-Identifier: MIT
"""Tests that each kind of bad input gets an errno, and that nothing is done."""

import errno
import fcntl
import os
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cleanup import _uapi
from guest import abi
from guest.layout import PAGE, UNIT, Area, area, child, vmpte

TASK_SIZE_4_LEVELS = (1 << 47) - PAGE


@pytest.fixture
def made() -> Iterator[Area]:
    """Make eight empty tables, all of which must still be there at the end."""
    with area(8) as layout:
        layout.touch()
        layout.release()
        yield layout
        assert abi.call(abi.Args([layout.span])).freed == 8


@pytest.fixture
def device() -> Iterator[int]:
    fd = _uapi.open_device()
    yield fd
    os.close(fd)


@pytest.mark.parametrize("flag", [1 << 3, 1 << 31])
def test_unknown_flag(made: Area, flag: int) -> None:
    assert abi.refused(abi.Args([made.span], flags=flag)).errno == errno.EINVAL


@pytest.mark.parametrize("levels", [0, 1 << 3, 1 << 31 | 1])
def test_unknown_level(made: Area, levels: int) -> None:
    assert abi.refused(abi.Args([made.span], levels=levels)).errno == errno.EINVAL


@pytest.mark.parametrize("size", [0, 8, abi.SIZE_MIN - 8, abi.SIZE_MIN + 1, abi.SIZE - 4])
def test_short_struct(made: Area, size: int) -> None:
    assert abi.refused(abi.Args([made.span], size=size)).errno == errno.EINVAL


def test_a_shorter_known_struct_is_taken_and_not_written_past() -> None:
    with area(4) as layout:
        layout.touch()
        layout.release()
        before = vmpte()
        answer = abi.call(abi.Args([layout.span], size=abi.SIZE_MIN))
        assert vmpte() == before - 4 * PAGE
        # The module writes the cursor, but not the counts, for which the caller has no room.
        assert (answer.next_range, answer.tables, answer.freed) == (1, 0, 0)


def test_long_struct(made: Area) -> None:
    tail = bytes(8) + b"\1" + bytes(7)
    refusal = abi.refused(abi.Args([made.span], size=abi.SIZE + 16, tail=tail))
    assert refusal.errno == errno.E2BIG
    assert abi.refused(abi.Args([made.span], size=PAGE + 8)).errno == errno.E2BIG


def test_a_longer_struct_with_a_zero_tail_is_taken() -> None:
    with area(4) as layout:
        layout.touch()
        layout.release()
        args = abi.Args([layout.span], size=abi.SIZE + 16, tail=bytes(16))
        assert abi.call(args).freed == 4


def test_nonzero_reserved(made: Area) -> None:
    assert abi.refused(abi.Args([made.span], inode_fd=0)).errno == errno.EINVAL


def test_unaligned_range(made: Area) -> None:
    assert abi.refused(abi.Args([(made.addr + 1, PAGE)])).errno == errno.EINVAL


@pytest.mark.parametrize("length", [(1 << 64) - PAGE, (1 << 64) - 1, 1 << 63], ids=hex)
def test_wrapping_range(made: Area, length: int) -> None:
    assert abi.refused(abi.Args([made.span, (made.addr, length)])).errno == errno.EINVAL


@pytest.mark.parametrize("addr", [1 << 63, 0xFFFF_8880_0000_0000, (1 << 64) - PAGE], ids=hex)
def test_kernel_space_range(made: Area, addr: int) -> None:
    assert abi.refused(abi.Args([made.span, (addr, PAGE)])).errno == errno.EINVAL


def test_range_that_ends_in_kernel_space(made: Area) -> None:
    # The range begins in user space, and ends past the last user address of 5-level paging.
    assert abi.refused(abi.Args([(made.addr, 1 << 56)])).errno == errno.EINVAL


def test_the_last_page_of_user_space_is_no_kernel_space() -> None:
    refusal = abi.refused(abi.Args([(TASK_SIZE_4_LEVELS - PAGE, PAGE)]))
    assert refusal.errno == errno.ENOMEM  # a valid range, where nothing is mapped


def test_too_many_ranges(made: Area) -> None:
    most = [(made.addr, 0)] * _uapi.MAX_RANGES
    assert abi.call(abi.Args(most)).next_range == _uapi.MAX_RANGES
    assert abi.refused(abi.Args([*most, (made.addr, 0)])).errno == errno.EINVAL


def test_bad_pointer_to_the_ranges(made: Area) -> None:
    for pointer in (0, 1 << 12, made.addr + UNIT * 8, 1 << 63):
        refusal = abi.refused(abi.Args(nr_ranges=1, ranges_pointer=pointer))
        assert refusal.errno == errno.EFAULT


def test_bad_pointer_to_the_struct(made: Area, device: int) -> None:
    for number in (_uapi.IOC_RECLAIM, _uapi.IOC_FEATURES):
        with pytest.raises(OSError, match="Bad address"):
            fcntl.ioctl(device, number, 1 << 12)


def test_ranges_with_the_whole_address_space(made: Area) -> None:
    refusal = abi.refused(abi.Args([made.span], flags=_uapi.WHOLE_MM))
    assert refusal.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("next_range", "offset"),
    [(2, None), (1, 0), (0, 1), (0, -PAGE), (0, 8 * UNIT + PAGE)],
    ids=["past the ranges", "past the last", "unaligned", "before the range", "after it"],
)
def test_cursor_outside_the_ranges(made: Area, next_range: int, offset: int | None) -> None:
    next_addr = 0 if offset is None else made.addr + offset
    refusal = abi.refused(abi.Args([made.span], next_range=next_range, next_addr=next_addr))
    assert refusal.errno == errno.EINVAL
    assert abi.refused(abi.Args([made.span], next_level=3)).errno == errno.EINVAL


def test_not_a_pidfd(made: Area) -> None:
    with Path("/dev/null").open("rb") as null:
        assert abi.refused(abi.Args([made.span], pidfd=null.fileno())).errno == errno.EBADF
    assert abi.refused(abi.Args([made.span], pidfd=9999)).errno == errno.EBADF
    assert abi.refused(abi.Args([made.span], pidfd=-2)).errno == errno.EBADF


def test_dead_pidfd(made: Area) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    os.waitpid(pid, 0)
    assert abi.refused(abi.Args([made.span], pidfd=pidfd)).errno == errno.ESRCH
    os.close(pidfd)


def test_zombie(made: Area) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert abi.refused(abi.Args([made.span], pidfd=pidfd)).errno == errno.ESRCH
    os.waitpid(pid, 0)
    os.close(pidfd)


def test_kernel_thread(made: Area) -> None:
    kthreadd = os.pidfd_open(2)
    assert abi.refused(abi.Args([made.span], pidfd=kthreadd)).errno == errno.ESRCH
    os.close(kthreadd)


def test_target_that_execs_and_exits_in_the_middle() -> None:
    """Calls work on the memory of before or after an exec; after the exit they answer ESRCH."""
    freed = gone = 0
    for round_ in range(12):
        pid = os.fork()
        if pid == 0:
            with area(512) as layout:
                layout.touch()
                layout.release()
                if round_ % 2:
                    os.execv("/bin/sleep", ["sleep", "0.05"])
                os._exit(0)
        pidfd = os.pidfd_open(pid)
        while True:
            try:
                freed += abi.call(abi.Args(flags=_uapi.WHOLE_MM, pidfd=pidfd, max_tables=3)).freed
            except abi.Refused as refusal:
                assert refusal.errno == errno.ESRCH
                gone += 1
                break
        os.close(pidfd)
        assert os.waitpid(pid, 0)[1] == 0
    assert gone == 12
    assert freed > 0


def test_a_target_that_was_killed_is_let_go() -> None:
    """A call on a killed process fails with ESRCH: it doesn't keep the memory from being freed."""

    def target() -> None:
        with area(512) as layout:
            layout.touch()
            layout.release()
            os.write(ready_w, b".")
            signal.pause()

    ready_r, ready_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        target()
    assert os.read(ready_r, 1) == b"."
    pidfd = os.pidfd_open(pid)
    assert abi.call(abi.Args(flags=_uapi.WHOLE_MM, pidfd=pidfd, max_tables=10)).freed == 10
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert abi.refused(abi.Args(flags=_uapi.WHOLE_MM, pidfd=pidfd)).errno == errno.ESRCH
    for fd in (pidfd, ready_r, ready_w):
        os.close(fd)


def test_unknown_ioctl(device: int) -> None:
    for number in (_uapi.IOC_RECLAIM + 7, 0x5401):
        with pytest.raises(OSError, match="Inappropriate ioctl"):
            fcntl.ioctl(device, number, bytearray(abi.SIZE))


def test_the_size_in_the_ioctl_number_does_not_matter() -> None:
    """The longer struct of a later header makes another ioctl number, which works, too."""
    longer = _uapi.IOC_RECLAIM + (16 << 16)
    with area(2) as layout:
        layout.touch()
        layout.release()
        args = abi.Args([layout.span], size=abi.SIZE + 16, tail=bytes(16))
        assert abi.call(args, number=longer).freed == 2


def test_features(device: int) -> None:
    answer = _uapi.features(device)
    assert answer.abi_version == _uapi.ABI_VERSION
    assert answer.features == 0, "a kernel of the lab is a proved one"
    assert answer.levels & _uapi.LEVELS["pte"]
    assert answer.flags & _uapi.SCAN_ONLY
    assert answer.flags & _uapi.WHOLE_MM
    assert answer.batch >= 64
    for size in (0, 32, 41):
        buffer = bytearray(struct.pack("=I", size).ljust(64, b"\0"))
        with pytest.raises(OSError, match="Invalid argument"):
            fcntl.ioctl(device, _uapi.IOC_FEATURES, buffer)
    longer = bytearray(struct.pack("=I", 48).ljust(47, b"\0") + b"\1")
    with pytest.raises(OSError, match="Argument list too long"):
        fcntl.ioctl(device, _uapi.IOC_FEATURES, longer)


def test_scan_only_by_pidfd_of_a_quiescent_child_equals_reclaim() -> None:
    def target(pause: Callable[[], None]) -> None:
        with area(100) as layout:
            layout.touch()
            layout.release(*range(0, 100, 3))
            pause()
            assert layout.values() == bytes(0 if index % 3 == 0 else 1 for index in range(100))

    with child(target) as quiet:
        pidfd = os.pidfd_open(quiet.pid)
        whole = abi.Args(flags=_uapi.WHOLE_MM | _uapi.SCAN_ONLY, pidfd=pidfd)
        found = abi.call(whole)
        before = vmpte(quiet.pid)
        whole.flags = _uapi.WHOLE_MM
        done = abi.call(whole)
        os.close(pidfd)
        assert found.empty == done.empty == done.freed >= 34
        assert before - vmpte(quiet.pid) == done.freed * PAGE
