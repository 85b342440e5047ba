# SPDX-License-Identifier: MIT
"""Stressors of files in memory that are mapped more than once."""

import mmap
import os
import random
import struct
from contextlib import ExitStack
from functools import partial

from guest.layout import (
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_HUGEPAGE,
    UNIT,
    madvise,
    map_at,
    memfd,
    punch_hole,
)
from proof.storms.contents import PAGES_A_UNIT, UNITS, Contents, place, placed
from proof.storms.stressors.base import ended, forked, killed, tried

READERS = 4


class FileCollapses:
    """A file that is mapped twice gets huge pages, which replace tables of both mappings."""

    def __init__(self, stack: ExitStack, chance: random.Random) -> None:
        self._file = stack.enter_context(memfd(UNITS * UNIT))
        made, second = (
            stack.enter_context(placed(index, UNITS, mmap.MAP_SHARED, self._file))
            for index in range(2)
        )
        for each in (made, second):
            madvise(each.addr, each.length, MADV_HUGEPAGE)
        self._shift = second.addr - made.addr
        self._contents = Contents(made, chance)

    def step(self) -> None:
        page = self._contents.any_page()
        self._contents.write(page)
        tried(MADV_COLLAPSE, self._contents.made.unit(page // PAGES_A_UNIT), UNIT)
        self._contents.check_written()
        self._contents.check_written(self._shift)
        unit = self._contents.any_unit()
        punch_hole(self._file, unit * UNIT, UNIT)
        self._contents.forget(unit * PAGES_A_UNIT, PAGES_A_UNIT)


class SharedFiles:
    """Many processes map one file; each sees what another writes, and the holes that it punches."""

    CHANGE = struct.Struct("=IB")

    def __init__(self, stack: ExitStack, chance: random.Random) -> None:
        self._file = stack.enter_context(memfd(UNITS * UNIT))
        made = stack.enter_context(placed(0, UNITS, mmap.MAP_SHARED, self._file))
        self._contents = Contents(made, chance)
        self._readers = [self._reader(stack) for _ in range(READERS)]

    def _reader(self, stack: ExitStack) -> tuple[int, int]:
        """Start a reader; return the pipes to tell it what was written, and to read its answers."""
        told, tell = os.pipe()
        answered, answer = os.pipe()
        pid = forked(lambda: self._read(told, answer, unused=(tell, answered)))
        for end in (told, answer):
            os.close(end)
        # Callbacks run in reverse: the pipes are closed first, which ends the reader.
        stack.callback(ended, pid)
        for end in (answered, tell):
            stack.callback(os.close, end)
        return tell, answered

    def _read(self, told: int, answer: int, unused: tuple[int, int]) -> None:
        for end in unused:
            os.close(end)
        while change := os.read(told, self.CHANGE.size):
            page, value = self.CHANGE.unpack(change)
            self._contents.values[page] = value
            self._contents.check(page)
            os.write(answer, b".")

    def step(self) -> None:
        pages = [self._contents.any_page() for _ in range(4)]
        for page in pages:
            self._contents.write(page)
            self._tell(page)
        made = self._contents.made
        madvise(made.addr, made.length // 2, MADV_DONTNEED)
        self._contents.check_written()
        unit = self._contents.any_unit()
        punch_hole(self._file, unit * UNIT, UNIT)
        self._contents.forget(unit * PAGES_A_UNIT, PAGES_A_UNIT)
        self._tell(unit * PAGES_A_UNIT)

    def _tell(self, page: int) -> None:
        change = self.CHANGE.pack(page, self._contents.values.get(page, 0))
        for tell, _ in self._readers:
            os.write(tell, change)
        for _, answered in self._readers:
            assert os.read(answered, 1), "a process did not see what another wrote to a file"


class Neighbours:
    """Each table maps pages of two files, whose i_mmap locks other processes take all the time.

    No two units share an upper table, so that upper tables are empty often.
    """

    HALF = UNIT // 2
    COPIES = 64

    def __init__(self, stack: ExitStack, chance: random.Random) -> None:
        self._contents = [Contents(place(index, 1), chance) for index in range(UNITS)]
        self._files = [stack.enter_context(memfd((UNITS + 1) * UNIT)) for _ in range(2)]
        for half, file in enumerate(self._files):
            for index, contents in enumerate(self._contents):
                self._map(contents.made.addr + half * self.HALF, file, index)
            stack.callback(killed, forked(partial(self._busy, file)))

    def _map(self, addr: int, file: int, unit: int) -> None:
        map_at(addr, self.HALF, mmap.MAP_SHARED, file, unit * UNIT)

    def _busy(self, file: int) -> None:
        """Keep the file's lock busy: drop a page from many mappings of it, over and over."""
        parent = os.getppid()
        copies = place(UNITS, self.COPIES)
        for index in range(copies.units):
            self._map(copies.unit(index), file, UNITS)
        while os.getppid() == parent:
            copies.touch()
            for _ in range(16):
                punch_hole(file, UNITS * UNIT, self.HALF)

    def step(self) -> None:
        for contents in self._contents:
            for _ in range(2):
                contents.write(contents.any_page())
        for contents in self._contents:
            contents.check_written()
        for file in self._files:
            punch_hole(file, 0, UNITS * UNIT)
        for contents in self._contents:
            contents.forget(0, PAGES_A_UNIT)
