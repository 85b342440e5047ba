# SPDX-License-Identifier: MIT
"""A test that no CPU reads a dropped zero page any more once another CPU has written there."""

import os

import pytest

from guest.stale_zeros import CPUS, PAGES, race

ROUNDS = int(os.environ.get("PGTABLE_CLEANUP_ROUNDS", "40000"))


@pytest.mark.parametrize("units", [PAGES, 16], ids=["many-tables", "few-tables"])
def test_no_zero_is_read_after_a_synchronised_write(units: int) -> None:
    """For many tables in a call the kernel flushes the whole TLB, for few only their ranges."""
    if (os.cpu_count() or 1) < CPUS:
        pytest.skip("reader, writer and cleaner need a CPU each: lab run --cpus 3")
    batches = ROUNDS // 2 // PAGES
    seen = race(units, batches)
    assert (seen.not_zero, seen.stale) == (0, 0)
    assert seen.dropped > batches * PAGES // 4, f"too few of {batches * PAGES} for a race"
