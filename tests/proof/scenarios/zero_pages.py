# SPDX-License-Identifier: MIT
"""Zero pages that are dropped while other CPUs have them in their TLBs."""

from guest import stale_zeros
from proof.scenarios.races import Inconclusive, Race, delayed

BATCHES = 4


@delayed("flush_tlb_mm_range:1000")
def no_stale_zero_is_read(race: Race) -> None:
    """The flush must not miss any of them."""
    _read_behind_writer(race)


# As long as a fault takes that waited for the lock, on a kernel with checks.
@delayed("flush_tlb_mm_range:50000")
def nothing_is_mapped_before_the_flush(race: Race) -> None:
    """The flush waits for longer than a fault takes, which must not come before it."""
    _read_behind_writer(race)


def _read_behind_writer(race: Race) -> None:
    with race.delays():
        for _ in race.rounds():
            seen = stale_zeros.race(16, BATCHES)
            assert seen.stale == 0, f"{seen.stale} zeros read after a write"
            assert seen.not_zero == 0, f"{seen.not_zero} pages were not zero once released"
            if not seen.dropped:
                raise Inconclusive("no zero page was dropped")
