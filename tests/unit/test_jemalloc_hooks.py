# SPDX-License-Identifier: MIT
"""Tests of the extent hooks: threads use one unit, and pauses let them interrupt each other."""

import subprocess
import sys
import textwrap
from pathlib import Path

import _hooks
import pytest

# The sizes of pages that kernels of aarch64 are built with; x86-64 has the first.
PAGES = [4096, 16384, 65536]


def run(program: str, *arguments: str) -> str:
    """Run a Python program with arguments, and return what it prints."""
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


PROGRAM = f"""
import sys, threading
sys.path.insert(0, {str(Path(_hooks.__file__).parent)!r})
import _hooks
page = int(sys.argv[2])
unit, _size = _hooks.start(sys.argv[1], page)
found = []
def work(number):
    found.append(_hooks.use(unit + number * 16 * page, page * (number + 1), 400, number + 1))
threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sum(stale for stale, _ in found), sum(lost for _, lost in found), *_hooks.stats())
"""


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("way", ["zap", "remap", "nothing"])
def test_no_byte_is_lost_and_none_is_stale(way: str, page: int) -> None:
    """Committed memory is zero, and keeps what is written while others release the unit."""
    said = run(PROGRAM, way, str(page))
    stale, lost, units, waits = map(int, said.split())
    assert (stale, lost) == (0, 0)
    assert units > 20, "there was a race"
    assert waits > 20, "and threads met in it"


RECORDED = f"""
import sys
sys.path.insert(0, {str(Path(_hooks.__file__).parent)!r})
import _hooks
page = int(sys.argv[2])
unit, UNIT = _hooks.start(sys.argv[1], page)
pages = page // 8
assert UNIT == pages * page
for at in (0, 63, 64, pages // 2, pages - 1, pages, 2 * pages - 1):
    assert _hooks.known(unit + at * page), at
assert not _hooks.known(unit - page)
assert not _hooks.known(unit + 2 * UNIT)
# All pages of a unit are counted, and the last that goes takes the unit along.
assert not _hooks.commit(unit, UNIT + page)
assert (_hooks.count(unit), _hooks.count(unit + UNIT)) == (pages, 1)
for first, nr in ((pages - 65, 65), (0, 1), (1, pages - 67)):
    assert not _hooks.decommit(unit + first * page, nr * page)
assert (_hooks.count(unit), _hooks.stats()[0]) == (1, 0)
assert not _hooks.decommit(unit + (pages - 66) * page, page)
assert (_hooks.count(unit), _hooks.stats()[0]) == (0, 1)
# A unit of which a half belongs to others stays.
assert not _hooks.commit(unit, UNIT)
_hooks.destroy(unit, UNIT // 2)
assert not _hooks.known(unit + UNIT // 2 - page)
assert _hooks.known(unit + UNIT // 2)
assert not _hooks.decommit(unit + UNIT // 2, UNIT // 2)
assert (_hooks.count(unit), _hooks.stats()[0]) == (0, 1)
# A unit goes with its only page, too.
assert not _hooks.decommit(unit + UNIT, page)
assert _hooks.stats()[0] == 2
"""


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("way", ["zap", "remap", "nothing"])
def test_each_page_of_a_unit_has_a_record(way: str, page: int) -> None:
    """A unit has 512 pages where these have 4 KiB, and 8192 where they have 64 KiB."""
    run(RECORDED, way, str(page))


LOCKED = f"""
import sys
sys.path.insert(0, {str(Path(_hooks.__file__).parent)!r})
import _hooks
import _libc as c
unit, UNIT = _hooks.start(sys.argv[1])
part = unit + (64 << 12)
def locked():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmLck"))
def take(addr, length):
    assert not _hooks.commit(addr, length)
    assert c.bytes_not(addr, length, 0) == 0
    c.fill(addr, length, 7)
"""


@pytest.mark.parametrize("way", ["zap", "remap", "nothing"])
@pytest.mark.parametrize(
    "program",
    [
        # Part of a unit is decommitted while the rest of it is in use.
        """
        take(unit, 64 << 12)
        take(part, UNIT - (64 << 12))
        c.mlock(unit + 4096, 4096)
        assert _hooks.decommit(unit, 64 << 12)
        assert _hooks.count(unit) == 512
        assert c.bytes_not(unit, 64 << 12, 0) == 63 * 4096
        assert c.bytes_not(part, UNIT - (64 << 12), 7) == 0
        assert locked() == 4
        # The rest: what is locked is in the middle of the unit that goes, or keeps it.
        assert not _hooks.decommit(part, UNIT - (64 << 12))
        assert (_hooks.count(unit), _hooks.stats()[0]) == (64, 0)
        assert locked() == 4
        c.munlock(unit, UNIT)
        assert not _hooks.decommit(unit, 64 << 12)
        assert (_hooks.count(unit), _hooks.stats()[0]) == (0, 1)
        take(unit, UNIT)
        """,
        # One call decommits two units, one of which holds locked memory.
        """
        for holds in (unit, unit + UNIT):
            take(unit, 2 * UNIT)
            c.mlock(holds + (300 << 12), 8192)
            assert _hooks.decommit(unit, 2 * UNIT)
            assert [_hooks.count(unit), _hooks.count(unit + UNIT)] == [512] * 2
            assert locked() == 8
            c.munlock(holds, UNIT)
            assert not _hooks.decommit(unit, 2 * UNIT)
            assert [_hooks.count(unit), _hooks.count(unit + UNIT)] == [0, 0]
        take(unit, 2 * UNIT)
        """,
        # Locked memory that is not in use lies before the memory that is decommitted.
        """
        c.mlock(unit, 4096)
        take(part, 4096)
        assert not _hooks.decommit(part, 4096)
        assert (_hooks.count(unit), _hooks.stats()[0]) == (0, 0)
        assert locked() == 4
        take(unit, UNIT)
        """,
        # The memory of a destroyed arena goes to jemalloc's own hooks, and does not count.
        """
        take(unit, UNIT)
        c.mlock(unit + 4096, 4096)
        _hooks.destroy(unit, UNIT)
        assert (_hooks.count(unit), _hooks.stats()[0]) == (0, 0)
        """,
    ],
    ids=["part", "two units", "elsewhere", "destroy"],
)
def test_locked_memory_stays_locked_and_is_zero_or_committed(way: str, program: str) -> None:
    """Locked memory stays in memory: decommit fails, and the pages stay committed."""
    run(LOCKED + textwrap.dedent(program), way)


LOCKING = f"""
import sys, threading
sys.path.insert(0, {str(Path(_hooks.__file__).parent)!r})
import _hooks
import _libc as c
again = sys.argv[1] == "again"
unit, UNIT = _hooks.start("remap")
# A unit that stays in use: the kernel unlocks the mapping of both, if it does.
assert not _hooks.commit(unit + UNIT, UNIT)
ended = False
def work():
    while not ended:
        _hooks.use(unit, 4096, 1, 7)
worker = threading.Thread(target=work)
worker.start()
def is_locked(addr):
    with open("/proc/self/smaps") as lines:
        for line in lines:
            first = line.split()[0]
            if "-" in first:
                start, end = (int(part, 16) for part in first.split("-"))
            elif first == "VmFlags:" and start <= addr < end:
                return "lo" in line.split()
unlocked = 0
for turn in range(100):
    assert not _hooks.lock(unit, 2 * UNIT, again)
    unlocked += not is_locked(unit + UNIT)
    c.munlock(unit, 2 * UNIT)
ended = True
worker.join()
print(unlocked)
"""


@pytest.mark.parametrize("locked", ["once", "again"])
def test_locked_memory_that_is_moved_meanwhile_is_locked_again(locked: str) -> None:
    """The hooks may move memory that is being locked, which then loses its lock."""
    said = run(LOCKING, locked)
    assert (int(said) > 0) == (locked == "once")


FORKING = f"""
import os, signal, sys, threading
sys.path.insert(0, {str(Path(_hooks.__file__).parent)!r})
import _hooks
unit, _size = _hooks.start(sys.argv[1])
ended = False
def work(number):
    while not ended:
        _hooks.use(unit + number * 8192, 4096, 1, number + 1)
threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
for thread in threads:
    thread.start()
waited = 0
for turn in range(60):
    _hooks.stand_still()
    child = os.fork()
    _hooks.go_on(not child)
    if not child:
        signal.alarm(20)
        _hooks.use(unit + 65536, 4096, 3, 9)
        os._exit(0)
    waited += os.waitpid(child, 0)[1] != 0
ended = True
for thread in threads:
    thread.join()
print(waited)
"""


@pytest.mark.parametrize("way", ["zap", "remap", "nothing"])
def test_the_child_of_a_fork_waits_for_none_of_its_parents_threads(way: str) -> None:
    said = run(FORKING, way)
    assert said == "0\n"


HANDLING = f"""
import os, sys, threading
sys.path.insert(0, {str(Path(_hooks.__file__).parent)!r})
import _hooks
unit, size = _hooks.start("nothing")
_hooks.interrupt()
threads = [
    threading.Thread(target=_hooks.use, args=(unit + number * size, 4096, 1, 1), daemon=True)
    for number in range(2)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(30)
print(sum(thread.is_alive() for thread in threads), flush=True)
os._exit(0)
"""


def test_a_handler_amid_a_release_waits_for_the_other_threads_alone() -> None:
    """A signal handler that forks interrupts a thread that gives a unit back: it waits for others.

    The last of these wakes it, although the thread that it interrupted still gives a unit back.
    """
    assert run(HANDLING) == "0\n"
