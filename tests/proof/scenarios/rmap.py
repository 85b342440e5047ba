# SPDX-License-Identifier: MIT
"""Walks from a page to all that map it, through an empty table that is taken away.

A process keeps a page mapped that another one, which is cleaned, has mapped once: the walks go
through the latter's tables too.  They are those of idle page tracking, which changes nothing, or of
migration.
"""

import os
import struct
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from _raw import peek, poke, syscall

from cleanup import _uapi
from guest import abi
from guest.layout import (
    GIB,
    MADV_DONTNEED,
    PAGE,
    UNIT,
    Child,
    area,
    madvise,
    map_at,
    memfd,
    reserved,
)
from proof.scenarios.races import Inconclusive, Race, cleaned, delayed, write_and_release

MAP_SHARED, SYS_MOVE_PAGES, MPOL_MF_MOVE = 1, 279, 2
IDLE = Path("/sys/kernel/mm/page_idle/bitmap")
NOTHING_FREED = 2
# Seconds: for the walk to find the table, and in which it is nothing else yet once freed.
FULL, EMPTY = 0.04, 0.12
# On a busy machine few would fit the time, and in most of them the walk comes too late.
LEAST_ROUNDS = 60
# The walk has found the table, and waits before it looks there.
WALK = (
    "pte_offset_map_rw_nolock|pte_offset_map_nolock|_raw_spin_lock"
    "@map_pte|map_pte.isra.0|page_vma_mapped_walk:100000"
)


# The walk has found the table, and waits before it takes the table's lock.
WALK_THAT_LOCKS = "_raw_spin_lock@__pte_offset_map_lock|pte_offset_map_lock:100000"


class Idle:
    """The idle bit of the page at an address of this process."""

    def __init__(self, address: int) -> None:
        # A page just mapped is not on an LRU list yet, and pages on none are not walked from.
        syscall(SYS_MOVE_PAGES, 0, 0, 0, _uapi.address_of(bytearray(1)), 0, 0)
        with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
            entry = os.pread(pagemap.fileno(), 8, address // PAGE * 8)
        frame = int.from_bytes(entry, "little") & (1 << 55) - 1
        assert frame, "the page is not there"
        self._place = frame // 64 * 8
        self._bit = (1 << frame % 64).to_bytes(8, "little")
        self._bitmap = IDLE.open("r+b", buffering=0)

    def walk(self) -> None:
        """Have all that map the page looked up: to make it idle, and to see whether it still is."""
        os.pwrite(self._bitmap.fileno(), self._bit, self._place)
        os.pread(self._bitmap.fileno(), 8, self._place)


class Migrated:
    """The page at an address of this process, which moves between two NUMA nodes."""

    def __init__(self, address: int) -> None:
        self._node = 0
        self._address = struct.pack("=Q", address)

    def walk(self) -> None:
        """Have all that may map the page looked up, to put it where its old place was mapped."""
        self._node = 1 - self._node
        buffers = [bytearray(self._address), bytearray(struct.pack("=i", self._node)), bytearray(4)]
        pointers = [_uapi.address_of(buffer) for buffer in buffers]
        syscall(SYS_MOVE_PAGES, 0, 1, *pointers, MPOL_MF_MOVE)


@delayed(WALK)
def anonymous(race: Race) -> None:
    """A fork's pages, on one anon_vma with its parent's."""
    with area(2 * GIB // UNIT, align=GIB) as made:
        _walk_beside_cleaner(made.addr, race)


@delayed(WALK_THAT_LOCKS)
def table_stays_for_who_has_seen_it(race: Race) -> None:
    """The lock that the walk waits to take is freed with the table.

    Nothing but RCU keeps it there.  On 6.12 and later no rmap lock is taken for a PTE table of
    anonymous memory.  Page faults would not show it on 6.12, where VMA locks keep them out.
    """
    with area(2 * GIB // UNIT, align=GIB) as made:
        _walk_beside_cleaner(made.addr, race, Migrated, levels=abi.LEVEL_PTE)


@delayed(WALK)
def file(race: Race) -> None:
    """Pages of a file in memory, that two processes map."""
    with memfd(2 * GIB) as fd, area(2 * GIB // UNIT, MAP_SHARED, fd, align=GIB) as made:
        _walk_beside_cleaner(made.addr, race)


@delayed(WALK)
def second_vma_of_a_table(race: Race) -> None:
    """Where the table is shared by VMAs of two files, the walk is through the second."""
    with (
        memfd(2 * GIB) as first,
        memfd(2 * GIB) as second,
        reserved(GIB // UNIT, align=GIB) as made,
    ):
        map_at(made.addr, UNIT // 2, MAP_SHARED, first)
        map_at(made.addr + UNIT // 2, UNIT // 2, MAP_SHARED, second)
        _walk_beside_cleaner(made.addr + UNIT // 2, race)


def _walk_beside_cleaner(
    addr: int,
    race: Race,
    walked: type[Idle] | type[Migrated] = Idle,
    levels: int = abi.ALL_LEVELS,
) -> None:
    """The parent walks from its page, the child touches another beside it and is cleaned."""
    poke(addr, 1, PAGE, 5)
    # 6.1 does not take a table's lock for an idle page that the table has no entry for.
    page = Migrated(addr) if race.kernel == "6.1" else walked(addr)

    def touched_and_cleaned(pause: Callable[[], None]) -> None:
        beside = addr + PAGE
        span = addr // GIB * GIB, GIB
        # Who walks is on CPU 0.
        os.sched_setaffinity(0, {2})
        madvise(addr, PAGE, MADV_DONTNEED)
        pause()
        try:
            with cleaned(abi.Args([span], levels=levels)):
                for _ in chain(range(LEAST_ROUNDS), race.rounds()):
                    write_and_release(beside, 1, PAGE, race, full=FULL, empty=EMPTY)
        except Inconclusive:
            os._exit(NOTHING_FREED)

    other = Child(touched_and_cleaned)
    other.resume()
    with race.delays():
        while not other.ended():
            page.walk()
            # The walk's locks are free for a while.
            time.sleep(race.chance.uniform(0, 0.01))
    code = os.waitstatus_to_exitcode(other.reap())
    if code == NOTHING_FREED:
        raise Inconclusive("the module freed no table")
    assert code == 0, "the other process lost what it wrote"
    assert peek(addr, 1, PAGE) == b"\5"
