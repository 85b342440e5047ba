# SPDX-License-Identifier: MIT
"""The sparse mapping: what a partial release keeps, and what it says of it."""

import pytest

from experiments.sparse import UNIT, between, runs_of, sparse_mapping


def test_runs() -> None:
    """Runs of units and what lies between them are each other's opposite."""
    assert list(runs_of([])) == []
    assert list(runs_of([0, 1, 2, 5, 7, 8])) == [(0, 3), (5, 6), (7, 9)]
    assert list(between([3, 4, 6], 9)) == [(0, 3), (5, 6), (7, 9)]


@pytest.mark.parametrize("block", [4 << 10, 64 << 10, 2 << 20])
@pytest.mark.parametrize("per_million", [0, 20_000, 500_000, 1_000_000])
def test_what_survives(block: int, per_million: int) -> None:
    """Blocks are kept whole and with what they held; the units said to be emptied are."""
    with sparse_mapping(16 * UNIT, seed=3, every_page=True, block=block) as mapping:
        mapping.touch(0, mapping.units)
        _seconds, survivors, emptied = mapping.release_but(0, mapping.units, per_million)
        kept = [
            offset
            for offset in range(0, len(mapping.view), 4096)
            if any(page_at(mapping.view, offset))
        ]
        assert survivors == len(kept)
        assert {offset // UNIT for offset in kept} == set(range(mapping.units)) - set(emptied)
        blocks = {offset // block for offset in kept}
        assert len(kept) == len(blocks) * block // 4096
        expected = per_million / 1e6 * len(mapping.view) / block
        assert abs(len(blocks) - expected) <= 3 * expected**0.5
        assert mapping.kept_intact(per_million)
        if kept:
            mapping.view[kept[-1]] ^= 1
            assert not mapping.kept_intact(per_million)


def page_at(view: memoryview, offset: int) -> memoryview:
    """The page that starts there."""
    return view[offset : offset + 4096]
