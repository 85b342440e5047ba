# SPDX-License-Identifier: MIT
"""Tests of sizes and durations: what is accepted, what is refused, and with which message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup import units


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1500", 1500),
        ("0", 0),
        ("1k", 1024),
        ("2M", 2 << 20),
        ("64g", 64 << 30),
        ("1TiB", 1 << 40),
        ("3gb", 3 << 30),
        ("7b", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "g", "-1", "1.5g", "1e3", "64 g", "0x10", "1p", "1gi", "²"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no size: give a number with k, m, g or t"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1ns", 1),
        ("500us", 500_000),
        ("500µs", 500_000),
        ("2MS", 2_000_000),
        ("3 s", 3 * 10**9),
        ("5min", 300 * 10**9),
        ("1h", 3600 * 10**9),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert units.parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["500000", "0"])
def test_a_duration_needs_a_unit(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' has no unit: write 500us"):
        units.parse_duration(text)


@pytest.mark.parametrize("text", ["", "us", "1m", "1.5s", "-1s", "1 fortnight"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration: give a number and one of ns, us, ms"):
        units.parse_duration(text)


@given(st.integers(0, 1 << 50))
def test_what_is_written_is_read_back(number: int) -> None:
    assert units.parse_size(units.format_size(number)) == number
    assert units.parse_duration(units.format_duration(number)) == number


def test_the_largest_unit_that_is_exact_is_written() -> None:
    sizes = (0, 1500, 2 << 20, 1536 << 20, 1 << 40)
    assert list(map(units.format_size, sizes)) == ["0", "1500", "2m", "1536m", "1t"]
    durations = (0, 1, 500_000, 2_000_000, 60 * 10**9)
    assert list(map(units.format_duration, durations)) == ["0ns", "1ns", "500us", "2ms", "1min"]
