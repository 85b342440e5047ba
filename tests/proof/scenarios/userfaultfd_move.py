# SPDX-License-Identifier: MIT
"""UFFDIO_MOVE, which on 6.12 puts an entry in a table without another look at the pmd."""

import fcntl
import struct

from _raw import peek, poke

from guest import abi
from guest.layout import MADV_DONTNEED, PAGE, UFFD_WRITE_PROTECT, area, madvise, userfaultfd
from proof.scenarios.races import Inconclusive, Race, delayed, repeated

UFFDIO_MOVE = 0xC028AA05


@delayed("_raw_spin_lock@move_pages_pte|move_pages:500")
def moved_page_arrives(race: Race) -> None:
    """The move has found the destination's table, and waits before it takes its lock."""
    if race.kernel == "6.1":
        raise Inconclusive("6.8 brought UFFDIO_MOVE")
    with area(1) as source, area(2) as made:
        destination = made.addr
        args = abi.Args([made.span])

        def clean() -> None:
            abi.call(args)

        with (
            userfaultfd(*made.span, UFFD_WRITE_PROTECT) as fd,
            repeated(clean),
            race.delays(),
        ):
            for _ in race.rounds():
                value = race.chance.randrange(1, 256)
                poke(source.addr, 1, PAGE, value)
                move = struct.pack("=QQQQq", destination, source.addr, PAGE, 0, 0)
                fcntl.ioctl(fd, UFFDIO_MOVE, bytearray(move))
                assert peek(destination, 1, PAGE) == bytes([value]), "the moved page is not there"
                madvise(destination, PAGE, MADV_DONTNEED)
