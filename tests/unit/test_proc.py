# SPDX-License-Identifier: MIT
"""Tests of `settled`, which waits until a figure of the kernel falls no more."""

import itertools

import pytest

from cleanup import proc


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace time.sleep(), and return the list of seconds that it was asked for."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


def test_a_figure_has_settled_when_it_falls_no_more(waits: list[float]) -> None:
    readings = iter([9, 7, 4, 4, 3])
    assert proc.settled(lambda: next(readings)) == 4
    assert len(waits) == 3


def test_a_figure_that_lags_behind_gets_longer(waits: list[float]) -> None:
    readings = iter([9, 9, 9, 4, 4, 4, 4, 3])
    assert proc.settled(lambda: next(readings), quiet_seconds=3 * proc.SETTLE_SECONDS) == 4
    assert len(waits) == 6


def test_what_has_reached_its_goal_is_not_waited_for(waits: list[float]) -> None:
    readings = iter([9, 9, 5, 4])
    assert proc.settled(lambda: next(readings), quiet_seconds=10, goal=5) == 5
    assert len(waits) == 2


def test_a_figure_that_falls_for_ever_is_given_up(waits: list[float]) -> None:
    readings = itertools.count(0, -1)
    assert proc.settled(lambda: next(readings)) == -len(waits)
    assert 5 < sum(waits) < 7
