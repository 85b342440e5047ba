# SPDX-License-Identifier: MIT
"""A fault that fills an entry of an empty table while that table is taken away."""

from guest import abi
from guest.layout import GIB, UNIT, area
from proof.scenarios.races import Race, cleaned, delayed, write_and_release

# Kernels inline differently: a fault locks the table in the first function that a kernel has.
LOCKS_TABLE = "|".join(
    (
        "__pte_offset_map_lock",
        "pte_offset_map_lock",
        "do_anonymous_page",
        "handle_pte_fault",
        "__handle_mm_fault",
    )
)


@delayed(f"_raw_spin_lock@{LOCKS_TABLE}:5000")
def no_write_is_lost(race: Race) -> None:
    """A write's fault has found the empty table, and waits before it takes the table's lock."""
    _write_beside_cleaner(race, 8)


@delayed("__pte_alloc:20000")
def no_write_is_lost_below_an_upper_table(race: Race) -> None:
    """A write's fault has found the PMD table, and waits before it puts a PTE table there."""
    _write_beside_cleaner(race, 4, GIB, abi.ALL_LEVELS)


def _write_beside_cleaner(
    race: Race, pages: int, stride: int = UNIT, levels: int = abi.LEVEL_PTE
) -> None:
    """Write pages beside a cleaner; they lie `stride` apart, so that no two share a PTE table."""
    with (
        area(pages * stride // UNIT) as made,
        cleaned(abi.Args([made.span], levels=levels)),
        race.delays(),
    ):
        for _ in race.rounds():
            write_and_release(made.addr, pages, stride, race)
