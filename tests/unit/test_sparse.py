# SPDX-License-Identifier: MIT
"""Tests of the sparse mapping: what a partial release keeps, and what it reports."""

import pytest

from experiments.sparse import UNIT, sparse_mapping


def test_what_is_around_those_kept() -> None:
    """`around` returns runs between kept units: the first unit and the one after the last."""
    with sparse_mapping(9 * UNIT, seed=3) as mapping:
        assert mapping.around() == [(0, 9)]
        assert mapping.around([3, 4, 6]) == [(0, 3), (5, 6), (7, 9)]
        assert mapping.around([0, 8]) == [(1, 8)]
        assert mapping.around(range(9)) == []


def test_what_is_filled_differs_by_unit_and_is_missed_when_it_changes() -> None:
    with sparse_mapping(4 * UNIT, seed=3) as mapping:
        mapping.fill([1, 3])
        assert mapping.page(1) != mapping.page(3)
        assert mapping.is_filled([1, 3])
        assert not mapping.is_filled([0])
        mapping.page(3)[7] ^= 1
        assert not mapping.is_filled([1, 3])


@pytest.mark.parametrize("block", [4 << 10, 64 << 10, 2 << 20])
@pytest.mark.parametrize("per_million", [0, 20_000, 500_000, 1_000_000])
def test_what_survives(block: int, per_million: int) -> None:
    """Survivors are whole blocks with their contents, in just the units that are reported."""
    with sparse_mapping(16 * UNIT, seed=3, every_page=True, block=block) as mapping:
        mapping.touch(0, mapping.units)
        _seconds, survivors, keeping = mapping.release_but(0, mapping.units, per_million)
        kept = [
            offset
            for offset in range(0, len(mapping.view), 4096)
            if any(page_at(mapping.view, offset))
        ]
        assert survivors == len(kept)
        assert {offset // UNIT for offset in kept} == set(keeping)
        blocks = {offset // block for offset in kept}
        assert len(kept) == len(blocks) * block // 4096
        expected = per_million / 1e6 * len(mapping.view) / block
        assert abs(len(blocks) - expected) <= 3 * expected**0.5
        assert mapping.kept_intact(per_million)
        if kept:
            mapping.view[kept[-1]] ^= 1
            assert not mapping.kept_intact(per_million)


def page_at(view: memoryview, offset: int) -> memoryview:
    """Return the page that starts at an offset."""
    return view[offset : offset + 4096]
