# SPDX-License-Identifier: MIT
"""Stressors that use userfaultfd to protect pages from writes, and to move pages."""

import errno
import fcntl
import os
import random
import struct
from contextlib import ExitStack

from guest.layout import PAGE, UFFD_WRITE_PROTECT, UNIT, userfaultfd
from proof.storms.contents import PAGES_A_UNIT, UNITS, Contents, placed
from proof.storms.stressors.base import Anonymous, Unavailable

UFFDIO_MOVE, UFFDIO_WRITEPROTECT = 0xC028AA05, 0xC018AA06


class WriteProtections(Anonymous):
    """Units are protected from writes for a while; the module must not free their tables."""

    def __init__(self, stack: ExitStack, chance: random.Random) -> None:
        super().__init__(stack, chance)
        self._fd = stack.enter_context(userfaultfd(*self.made.span, UFFD_WRITE_PROTECT))

    def step(self) -> None:
        self.contents.churn()
        unit = self.made.unit(self.contents.any_unit())
        for mode in (1, 0):
            fcntl.ioctl(self._fd, UFFDIO_WRITEPROTECT, struct.pack("=QQQ", unit, UNIT, mode))
            self.contents.check_written()


class Moves(Anonymous):
    """UFFDIO_MOVE moves pages away, which empties the tables that mapped them."""

    def __init__(self, stack: ExitStack, chance: random.Random) -> None:
        if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 8):
            raise Unavailable("6.8 brought UFFDIO_MOVE")
        super().__init__(stack, chance)
        self._moved = Contents(stack.enter_context(placed(1)), chance)
        self._fd = stack.enter_context(userfaultfd(*self._moved.made.span, UFFD_WRITE_PROTECT))

    def step(self) -> None:
        self.contents.churn()
        for _ in range(4):
            page = self.contents.any_page()
            self.contents.write(page)
            self._moved.release(page)
            self._move(page)
            self._moved.values[page] = self.contents.values.pop(page)
            self.contents.check(page)
        self._moved.check_written()
        self.contents.check_written()
        if len(self._moved.values) > 64:
            self._moved.release(0, UNITS * PAGES_A_UNIT)

    def _move(self, page: int) -> None:
        addresses = self._moved.address(page), self.contents.address(page)
        while True:
            try:
                move = struct.pack("=QQQQq", *addresses, PAGE, 0, 0)
                fcntl.ioctl(self._fd, UFFDIO_MOVE, bytearray(move))
            except OSError as error:
                # Reclaim, for example, may have isolated the page.
                if error.errno not in (errno.EAGAIN, errno.EBUSY):
                    raise
            else:
                return
