# SPDX-License-Identifier: MIT
"""Zero pages that are dropped while other CPUs have them in their TLBs."""

from guest import stale_zeros
from proof.scenarios.races import Inconclusive, Race, delayed

BATCHES = 4


@delayed("flush_tlb_mm_range:1000")
def no_stale_zero_is_read(race: Race) -> None:
    """Nothing may be mapped there before the flush, which waits a while; nor may the flush miss."""
    with race.delays():
        for _ in race.rounds():
            seen = stale_zeros.race(16, BATCHES)
            assert seen.stale == 0, f"{seen.stale} zeros read after a write"
            assert seen.not_zero == 0, f"{seen.not_zero} pages were not zero once released"
            if not seen.dropped:
                raise Inconclusive("no zero page was dropped")
