# SPDX-License-Identifier: MIT
"""MADV_COLLAPSE, which replaces an empty table by a huge page while that table is taken away."""

import errno

from _raw import peek, poke

from guest import abi
from guest.layout import (
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    PAGE,
    UNIT,
    madvise,
    map_at,
    memfd,
    reserved,
)
from proof.scenarios.races import Race, cleaned, delayed

MAP_SHARED = 1


@delayed("_raw_spin_lock@collapse_pte_mapped_thp:500")
def of_a_file(race: Race) -> None:
    """No page is lost where MADV_COLLAPSE clears the way for a huge page of the page cache."""
    with memfd(UNIT) as file, reserved(1) as first, reserved(1) as second:
        map_at(first.addr, UNIT, MAP_SHARED, file)
        poke(first.addr, 512, PAGE, 6)
        madvise(first.addr, UNIT, MADV_COLLAPSE)
        with cleaned(abi.Args([second.span])), race.delays():
            for _ in race.rounds():
                map_at(second.addr, UNIT, MAP_SHARED, file)
                madvise(second.addr, UNIT, MADV_NOHUGEPAGE)
                peek(second.addr, 1, PAGE)
                madvise(second.addr, UNIT, MADV_HUGEPAGE)
                madvise(second.addr, UNIT // 2, MADV_DONTNEED)
                madvise(second.addr + UNIT // 2, UNIT // 2, MADV_DONTNEED)
                _try_to_collapse(second.addr)
                assert peek(second.addr, 512, PAGE) == bytes([6] * 512), "a page of the file went"


def _try_to_collapse(addr: int) -> None:
    """Try MADV_COLLAPSE, which the kernel may refuse where the module has just freed the table."""
    try:
        madvise(addr, UNIT, MADV_COLLAPSE)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EINVAL):
            raise
