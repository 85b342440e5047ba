# SPDX-License-Identifier: MIT
"""PMD tables of hugetlb memory, which processes share."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from _raw import peek, poke

from guest import abi
from guest.layout import GIB, MAP_NORESERVE, UNIT, Area, child, madvise, map_at, reserved
from proof.scenarios.races import Inconclusive, Race

MAP_SHARED, MADV_POPULATE_WRITE = 1, 23
POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")


@contextmanager
def hugetlb() -> Iterator[int]:
    """Make a file of 1 GiB in huge pages while the kernel's pool of them is empty."""
    POOL.write_text("0")
    fd = os.memfd_create("hugetlb", os.MFD_HUGETLB)
    os.ftruncate(fd, GIB)
    try:
        yield fd
    finally:
        os.close(fd)
        POOL.write_text("0")


def make_empty_table(made: Area) -> None:
    """Fault where there is no page to be had: the fault makes or shares the table, then fails."""
    try:
        madvise(made.addr, UNIT, MADV_POPULATE_WRITE)
    except OSError as error:
        if error.errno not in (errno.ENOMEM, errno.EFAULT):
            raise
    else:
        raise Inconclusive("there was a huge page")


def table_of_another_process_stays(race: Race) -> None:
    """An empty table that two processes share, as both map all of its 1 GiB, must stay."""
    with hugetlb() as file, reserved(GIB // UNIT, align=GIB) as made:
        map_at(made.addr, GIB, MAP_SHARED | MAP_NORESERVE, file)
        make_empty_table(made)

        def share(pause: Callable[[], None]) -> None:
            make_empty_table(made)
            pause()
            poke(made.addr, 2, UNIT, 9)
            assert peek(made.addr, 2, UNIT) == b"\x09\x09"

        with child(share):
            for _ in range(3):
                abi.call(abi.Args([made.span], levels=abi.ALL_LEVELS))
            POOL.write_text("4")
            if int(POOL.read_text()) < 4:
                raise Inconclusive("too little memory in one piece")
        assert peek(made.addr, 2, UNIT) == b"\x09\x09"
