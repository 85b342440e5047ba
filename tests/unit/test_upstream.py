# SPDX-License-Identifier: MIT
"""Which runs of upstream's bugs are made again; the guests are faked."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from cleanup import lab
from cleanup.lab.progress import Silent
from proof import guests
from proof.guests import Job, Seen
from proof.upstream import ATTEMPTS, _not_passed

KERNEL = lab.Kernel("6.12-debug", "6.12.1", Path(), Path(), Path())
FIRST, SECOND = Job("upstream.a", 1), Job("upstream.a", 2)


def not_passed(
    monkeypatch: pytest.MonkeyPatch, outcomes: dict[int, str]
) -> tuple[list[Job], list[list[int]]]:
    """Of two runs, with these outcomes by seed; and the seeds of each round."""
    rounds: list[list[int]] = []

    def run(jobs: Sequence[Job], *_: object, **__: object) -> dict[Job, Seen]:
        rounds.append([job.seed for job in jobs])
        return {job: Seen(outcomes.get(job.seed, "passed"), "") for job in jobs}

    monkeypatch.setattr(guests, "run", run)
    return _not_passed([FIRST, SECOND], 2, KERNEL, Silent()), rounds


def test_what_decided_nothing_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not_passed(monkeypatch, {1: "inconclusive"}) == ([], [[1, 2], [3]])


def test_what_failed_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not_passed(monkeypatch, {2: "failed"}) == ([SECOND], [[1, 2]])


def test_what_never_decides_has_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, rounds = not_passed(monkeypatch, dict.fromkeys(range(1, 99, 2), "inconclusive"))
    assert len(rounds) == ATTEMPTS
    assert len(wrong) == 1
