# SPDX-License-Identifier: MIT
"""Reverse-map walks, from a page to all that map it, through an empty table that is taken away.

Two processes mapped a page.  One still maps it; the other has released it and is cleaned.  Walks
from the page, by idle page tracking or for migration, still go through the tables of both.
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
# Seconds that a table stays full, so that a walk finds it, and then empty, so that it is freed and
# no new one takes its place meanwhile.
FULL, EMPTY = 0.04, 0.12
# A busy machine fits few rounds into the time, and in most of them the walk comes too late.
LEAST_ROUNDS = 60
# At these points a walk has found the table, and has not looked into it yet.
WALK = (
    "pte_offset_map_rw_nolock|pte_offset_map_nolock|_raw_spin_lock"
    "@map_pte|map_pte.isra.0|page_vma_mapped_walk:100000"
)


# At these points a walk has found the table, and has not taken the table's lock yet.
WALK_THAT_LOCKS = "_raw_spin_lock@__pte_offset_map_lock|pte_offset_map_lock:100000"


class Idle:
    """A page of this process, by its address, and its bit in the bitmap of idle page tracking."""

    def __init__(self, address: int) -> None:
        # Walks start only from pages on an LRU list, where this call puts those just mapped.
        syscall(SYS_MOVE_PAGES, 0, 0, 0, _uapi.address_of(bytearray(1)), 0, 0)
        with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
            entry = os.pread(pagemap.fileno(), 8, address // PAGE * 8)
        frame = int.from_bytes(entry, "little") & (1 << 55) - 1
        assert frame, "the page is not there"
        self._place = frame // 64 * 8
        self._bit = (1 << frame % 64).to_bytes(8, "little")
        self._bitmap = IDLE.open("r+b", buffering=0)

    def walk(self) -> None:
        """Have the kernel walk to all that map the page, to mark it idle and to read the mark."""
        os.pwrite(self._bitmap.fileno(), self._bit, self._place)
        os.pread(self._bitmap.fileno(), 8, self._place)


class Migrated:
    """A page of this process, by its address, that moves between two NUMA nodes."""

    def __init__(self, address: int) -> None:
        self._node = 0
        self._address = struct.pack("=Q", address)

    def walk(self) -> None:
        """Move the page: the kernel walks to all that may map it, to replace their entries."""
        self._node = 1 - self._node
        buffers = [bytearray(self._address), bytearray(struct.pack("=i", self._node)), bytearray(4)]
        pointers = [_uapi.address_of(buffer) for buffer in buffers]
        syscall(SYS_MOVE_PAGES, 0, 1, *pointers, MPOL_MF_MOVE)


@delayed(WALK)
def anonymous(race: Race) -> None:
    """A walk by the anon_vma of parent and child must survive in the child's empty table."""
    with area(2 * GIB // UNIT, align=GIB) as made:
        _walk_beside_cleaner(made.addr, race)


@delayed(WALK_THAT_LOCKS)
def table_stays_for_who_has_seen_it(race: Race) -> None:
    """A table must stay for a walk that has found it and waits for its lock.

    Nothing but RCU keeps the table: since 6.12 the module takes no rmap lock for a PTE table of
    anonymous memory.  Page faults would not show that on 6.12, where VMA locks keep them out.
    """
    with area(2 * GIB // UNIT, align=GIB) as made:
        _walk_beside_cleaner(made.addr, race, Migrated, levels=abi.LEVEL_PTE)


@delayed(WALK)
def file(race: Race) -> None:
    """A walk from a page of a file that two processes map must survive in an empty table."""
    with memfd(2 * GIB) as fd, area(2 * GIB // UNIT, MAP_SHARED, fd, align=GIB) as made:
        _walk_beside_cleaner(made.addr, race)


@delayed(WALK)
def second_vma_of_a_table(race: Race) -> None:
    """Two files' VMAs share a table: a walk through the second of them must survive, too."""
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
    """Walk from a page of the parent, while the child touches the page beside it and is cleaned."""
    poke(addr, 1, PAGE, 5)
    # On 6.1 a walk locks a table without an entry for the page only if it is made for migration.
    page = Migrated(addr) if race.kernel == "6.1" else walked(addr)

    def touched_and_cleaned(pause: Callable[[], None]) -> None:
        beside = addr + PAGE
        span = addr // GIB * GIB, GIB
        # CPU 0 is the walker's.
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
            # Leave the walk's locks free for a while.
            time.sleep(race.chance.uniform(0, 0.01))
    code = os.waitstatus_to_exitcode(other.reap())
    if code == NOTHING_FREED:
        raise Inconclusive("the module freed no table")
    assert code == 0, "the other process lost what it wrote"
    assert peek(addr, 1, PAGE) == b"\5"
