# SPDX-License-Identifier: MIT
"""Tests of which runs that look for upstream's bugs are repeated; the guests are faked."""

from collections.abc import Sequence
from typing import cast

from proof.guests import Job, Seen, Stage
from proof.upstream import ATTEMPTS, _not_passed

FIRST, SECOND = Job("upstream.a", 1), Job("upstream.a", 2)


class FakeStage:
    """Stands in for a Stage: looks up outcomes by seed, and records the seeds of each round."""

    def __init__(self, outcomes: dict[int, str]) -> None:
        self.outcomes = outcomes
        self.rounds: list[list[int]] = []

    def play(self, jobs: Sequence[Job]) -> dict[Job, Seen]:
        self.rounds.append([job.seed for job in jobs])
        return {job: Seen(self.outcomes.get(job.seed, "passed"), "") for job in jobs}


def not_passed(outcomes: dict[int, str]) -> tuple[list[Job], list[list[int]]]:
    stage = FakeStage(outcomes)
    return _not_passed([FIRST, SECOND], 2, cast(Stage, stage)), stage.rounds


def test_what_decided_nothing_runs_again() -> None:
    assert not_passed({1: "inconclusive"}) == ([], [[1, 2], [3]])


def test_what_failed_does_not() -> None:
    assert not_passed({2: "failed"}) == ([SECOND], [[1, 2]])


def test_what_never_decides_has_not_passed() -> None:
    wrong, rounds = not_passed(dict.fromkeys(range(1, 99, 2), "inconclusive"))
    assert len(rounds) == ATTEMPTS
    assert len(wrong) == 1
