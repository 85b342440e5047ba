# SPDX-License-Identifier: MIT
"""The bugs that Linux itself had where it takes page tables away: the module must have none.

One more bug is left out: it broke arm64's rule break-before-make, which x86 does not have.
"""

from pathlib import Path

from guest import abi
from guest.layout import UNIT, area
from proof.scenarios import collapse, faults, rmap, userfaultfd_move
from proof.scenarios.races import POINTS, Race, cleaned, delayed, repeated, write_and_release


@delayed(*POINTS[faults.no_write_is_lost])
def refilled_after_the_check_f39edcf6349a(race: Race) -> None:
    """PT_RECLAIM (6.14) dropped the table's lock between its check and the detaching."""
    faults.no_write_is_lost(race)


@delayed("_raw_spin_lock@map_pte|map_pte.isra.0|page_vma_mapped_walk:40000")
def ptlock_used_after_free(race: Race) -> None:
    """A walk that has found the table waits for its lock, which is freed with the table."""
    rmap.file(race)


@delayed("_raw_spin_lock@move_pages_ptes|move_pages_pte|move_pages:500")
def uffdio_move_into_a_vanished_table(race: Race) -> None:
    """UFFDIO_MOVE (6.8) did not recheck the pmd entry once it had the locks of both tables."""
    userfaultfd_move.moved_page_arrives(race)


@delayed("_raw_spin_lock@try_collapse_pte_mapped_thp|collapse_pte_mapped_thp:500")
def khugepaged_against_a_vanished_table(race: Race) -> None:
    """collapse_pte_mapped_thp() cleared the pmd entry without checking it again."""
    collapse.of_a_file(race)


@delayed("smaps_pte_range:3000")
def smaps_pte_range_walks_without_rcu(race: Race) -> None:
    """Before 6.6 only the mmap lock protects the table that smaps_pte_range() reads."""

    with area(4) as made:

        def change() -> None:
            write_and_release(made.addr, made.units, UNIT, race, full=0.002, empty=0.002)

        with repeated(change, cpu=2), cleaned(abi.Args([made.span])), race.delays():
            for _ in race.rounds():
                Path("/proc/self/smaps").read_bytes()
