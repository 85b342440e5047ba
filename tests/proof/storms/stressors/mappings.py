# SPDX-License-Identifier: MIT
"""Stressors that fault, and that change mappings and processes by system calls."""

import mmap
import os
import random
import signal
from contextlib import ExitStack
from pathlib import Path

from _raw import peek, poke, syscall

from guest.layout import (
    ANON,
    MAP_NORESERVE,
    PAGE,
    PROT_RW,
    SYS_MREMAP,
    UNIT,
    Area,
    map_at,
    memfd,
    protect,
    punch_hole,
    unmap,
)
from proof.storms.contents import PAGES_A_UNIT, Contents, place, placed
from proof.storms.stressors.base import Anonymous, ended, forked

MREMAP_MAYMOVE_FIXED = 3
# Twice as many tables as the module takes in one batch.
MANY_UNITS = 256


class Faults(Anonymous):
    """Faults fill tables, and MADV_DONTNEED empties them."""

    def step(self) -> None:
        self.contents.churn()
        self.contents.check_written()


class Refills:
    """Many tables are emptied and filled again, also between a cleaner's scan and its recheck."""

    def __init__(self, stack: ExitStack, chance: random.Random) -> None:
        self._chance = chance
        self._file = stack.enter_context(memfd(MANY_UNITS * UNIT))
        flags = mmap.MAP_SHARED | MAP_NORESERVE
        self._made = stack.enter_context(placed(0, MANY_UNITS, flags, self._file))

    def step(self) -> None:
        value = self._chance.randrange(1, 256)
        self._made.touch(value)
        assert self._made.values() == bytes([value]) * MANY_UNITS
        punch_hole(self._file, 0, self._made.length)
        first = self._chance.randrange(MANY_UNITS)
        found = peek(self._made.unit(first), MANY_UNITS - first, UNIT)
        assert not any(found), "what was punched out is there"


class Forks(Anonymous):
    """A fork copies the tables; parent and child then write to their own copies."""

    def step(self) -> None:
        self.contents.churn()
        pid = forked(self._work)
        self._work()
        assert ended(pid) == 0, "a fork lost what it or its parent had written"

    def _work(self) -> None:
        self.contents.check_written()
        self.contents.churn()
        self.contents.check_written()


class Mremaps(Anonymous):
    """mremap() moves entries, and whole tables, to another place and back."""

    def step(self) -> None:
        self.contents.churn()
        here, length = self.made.addr, self.made.length
        # A distance of whole units has the kernel move tables, any other one entries.
        there = place(1).addr + self.chance.choice((0, PAGE))
        for source, destination in ((here, there), (there, here)):
            syscall(SYS_MREMAP, source, length, length, MREMAP_MAYMOVE_FIXED, destination)
            self.contents.check_written(destination - here)


class Unmaps(Anonymous):
    """Parts of the memory are unmapped and mapped again; mprotect() splits off others."""

    def step(self) -> None:
        self.contents.churn()
        page = self.contents.any_page()
        count = min(self.chance.randrange(1, 2 * PAGES_A_UNIT), self.made.length // PAGE - page)
        address, length = self.contents.address(page), count * PAGE
        if self.chance.random() < 0.5:
            unmap(address, length)
            map_at(address, length, ANON)
            self.contents.forget(page, count)
        else:
            protect(address, length, mmap.PROT_READ)
            self.contents.check_written()
            protect(address, length, PROT_RW)
        self.contents.check_written()


class Ends:
    """Processes whose tables are full exit, exec or are killed."""

    def __init__(self, _stack: ExitStack, chance: random.Random) -> None:
        self._chance = chance

    def step(self) -> None:
        chance = random.Random(self._chance.getrandbits(32))
        code = ended(forked(lambda: _live_and_end(chance)))
        assert code in (0, -signal.SIGKILL), f"a process ended with {code}"


def _live_and_end(chance: random.Random) -> None:
    with placed(0) as made:
        contents = Contents(made, chance)
        for _ in range(4):
            contents.churn()
        contents.check_written()
        match chance.randrange(3):
            case 0:
                os._exit(0)
            case 1:
                os.execv("/bin/true", ["true"])
            case _:
                os.kill(os.getpid(), signal.SIGKILL)


class OutOfMemory:
    """The OOM killer ends a process, and the OOM reaper empties its tables meanwhile."""

    LIMIT = 4 << 20
    UNITS = 4096  # whose pages and tables take far more than LIMIT

    def __init__(self, stack: ExitStack, _chance: random.Random) -> None:
        root = Path("/sys/fs/cgroup")
        (root / "cgroup.subtree_control").write_text("+memory")
        self._cgroup = root / f"storms-oom-{os.getpid()}"
        self._cgroup.mkdir()
        stack.callback(self._cgroup.rmdir)
        (self._cgroup / "memory.max").write_text(str(self.LIMIT))
        (self._cgroup / "memory.swap.max").write_text("0")

    def step(self) -> None:
        code = ended(forked(self._outgrow))
        assert code == -signal.SIGKILL, f"the target outlived its limit, and ended with {code}"

    def _outgrow(self) -> None:
        (self._cgroup / "cgroup.procs").write_text("0")
        with placed(0, self.UNITS) as made:
            self._fill(made)

    def _fill(self, made: Area) -> None:
        """Fill a page in each unit; every fourth one is released, and leaves an empty table."""
        for unit in range(0, self.UNITS, 4):
            poke(made.unit(unit), 4, UNIT, 1)
            made.release(unit)
