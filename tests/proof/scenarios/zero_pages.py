# SPDX-License-Identifier: MIT
"""Zero pages that are dropped while other CPUs have them in their TLBs."""

from guest import stale_zeros
from proof.scenarios.races import Inconclusive, Race, delayed

BATCHES = 4


@delayed("flush_tlb_mm_range:1000")
def no_stale_zero_is_read(race: Race) -> None:
    """The TLB flush must not miss any zero page that was dropped."""
    _read_behind_writer(race)


# A write to a zero page that is still mapped flushes the reader's TLB itself, maybe all of it.  So
# the writer first gives the call time to drop the zero pages: a third of the flush's delay.
@delayed("flush_tlb_mm_range:60000")
def nothing_is_mapped_before_the_flush(race: Race) -> None:
    """No fault may map a page before the flush, which is delayed longer than a fault takes."""
    _read_behind_writer(race, wait_us=20_000)


def _read_behind_writer(race: Race, wait_us: int = 0) -> None:
    with race.delays():
        for _ in race.rounds():
            seen = stale_zeros.race(16, BATCHES, wait_us)
            assert seen.stale == 0, f"{seen.stale} zeros read after a write"
            assert seen.not_zero == 0, f"{seen.not_zero} pages were not zero once released"
            if not seen.dropped:
                raise Inconclusive("no zero page was dropped")
