# SPDX-License-Identifier: MIT
"""Tests of the guests that play a proof's scenarios; the guests are faked."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cleanup import lab
from proof.guests import Job, Seen, Stage
from unit.test_lab_guest import made_result

KERNEL = lab.Kernel("6.12-debug", "6.12.1", Path("tree"), Path("vmlinuz"), Path("modules"))
JOBS = [Job("faults.no_write_is_lost", seed) for seed in (1, 2, 3)]
PASSED = Seen("passed", "")
REPORT = "BUG: KASAN: use-after-free in walker"
AS_IS, OTHER = Path("dir/module.ko"), Path("dir/other.ko")

Act = Callable[[list[str], Callable[[bytes], None]], int]


class Lab:
    """Stands in for the lab: each command in its guests calls the next function of `told`."""

    def __init__(self, *told: Act, silent: bool = False) -> None:
        self.told = list(told)
        self.silent = silent
        self.boots = 0
        self.given: list[tuple[int, list[str]]] = []
        """For each command: the number of its guest's boot, and its jobs and --load options."""
        self.closed = 0

    def boot(self, *_: object, **__: object) -> "FakeGuest":
        self.boots += 1
        return FakeGuest(self, self.boots)


class FakeGuest:
    def __init__(self, lab_: Lab, number: int) -> None:
        self.lab, self.number, self.ended = lab_, number, False

    def run(self, command: Sequence[str], **options: Any) -> lab.GuestResult:  # noqa: ANN401
        words = [word for word in command if ":" in word or word.startswith("--load")]
        self.lab.given.append((self.number, words))
        if not self.lab.silent:
            options["on_stdout"](b"ready\n")
        jobs = [word for word in words if ":" in word]
        code = self.lab.told.pop(0)(jobs, options["on_stdout"])
        return made_result(exit_code=code, stderr=b"a traceback", kernel_release="6.12.1")

    def end(self, _why: str) -> None:
        self.ended = True

    def close(self) -> None:
        self.lab.closed += 1


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> Callable[[Lab], Stage]:
    """Return a function that makes a stage whose guests a fake lab boots."""

    def made(faked: Lab) -> Stage:
        monkeypatch.setattr(lab, "boot", faked.boot)
        monkeypatch.setattr(lab, "build_module", lambda *_args, **_more: AS_IS)
        return Stage(KERNEL, [OTHER])

    return made


def answer(
    job: str, outcome: str = "passed", report: str = "", *, complained: bool = False
) -> bytes:
    line = {"job": job, "outcome": outcome, "report": report, "complained": complained}
    return json.dumps(line).encode() + b"\n"


def all_pass(jobs: list[str], say: Callable[[bytes], None]) -> int:
    for job in jobs:
        say(answer(job))
    return 0


def words(*jobs: Job) -> list[str]:
    return [str(job) for job in jobs]


def test_one_guest_plays_all(staged: Callable[[Lab], Stage]) -> None:
    faked = Lab(all_pass, all_pass)
    with staged(faked) as stage:
        assert stage.play(JOBS) == dict.fromkeys(JOBS, PASSED)
        assert stage.play(JOBS[:1]) == {JOBS[0]: PASSED}
    assert faked.given == [(1, words(*JOBS)), (1, words(JOBS[0]))]
    assert faked.closed == 1


def test_a_build_is_loaded_where_another_is(staged: Callable[[Lab], Stage]) -> None:
    faked = Lab(*[all_pass] * 4)
    with staged(faked) as stage:
        for build in (OTHER, OTHER, None, None):
            stage.play(JOBS[:1], build)
    loads = [given[1][:-1] for given in faked.given]
    assert loads == [[f"--load={OTHER}"], [], [f"--load={AS_IS}"], []]
    assert faked.boots == 1
    # A guest that ran a mutation is not closed, so the dmesg gate doesn't judge its log.
    assert faked.closed == 0


def test_it_ends_with_the_outcome_that_was_waited_for(staged: Callable[[Lab], Stage]) -> None:
    def second_fails(jobs: list[str], say: Callable[[bytes], None]) -> int:
        say(answer(jobs[0]) + answer(jobs[1], "failed", "AssertionError: 00"))
        return 0

    seen = staged(Lab(second_fails)).play(JOBS, OTHER, until="failed")
    assert [one.outcome for one in seen.values()] == ["passed", "failed"]


def test_a_lost_byte_does_not_end_the_guest(staged: Callable[[Lab], Stage]) -> None:
    def second_fails(jobs: list[str], say: Callable[[bytes], None]) -> int:
        say(answer(jobs[0]) + answer(jobs[1], "failed", "AssertionError: 00") + answer(jobs[2]))
        return 0

    faked = Lab(second_fails, all_pass)
    stage = staged(faked)
    assert [one.outcome for one in stage.play(JOBS).values()] == ["passed", "failed", "passed"]
    stage.play(JOBS)
    assert faked.boots == 1


@pytest.mark.parametrize("dead", [True, False], ids=["the guest is dead", "the scenario says so"])
def test_after_a_complaint_the_rest_gets_another_guest(
    staged: Callable[[Lab], Stage], dead: bool
) -> None:
    def second_complains(jobs: list[str], say: Callable[[bytes], None]) -> int:
        say(answer(jobs[0]))
        if not dead:
            say(answer(jobs[1], "failed", REPORT, complained=True))
        raise lab.KernelReportError("the guest went down", ["---[ cut here ]---", REPORT])

    faked = Lab(second_complains, all_pass)
    seen = staged(faked).play(JOBS, OTHER)
    failed = Seen("failed", REPORT, complained=True)
    assert seen == {JOBS[0]: PASSED, JOBS[1]: failed, JOBS[2]: PASSED}
    assert [number for number, _ in faked.given] == [1, 2]
    assert faked.given[1][1] == [f"--load={OTHER}", str(JOBS[2])]


def test_a_scenario_that_does_not_end_costs_the_guest(staged: Callable[[Lab], Stage]) -> None:
    def hangs(jobs: list[str], say: Callable[[bytes], None]) -> int:
        say(answer(jobs[0], "failed", "not done within 80 s", complained=True))
        return 3

    faked = Lab(hangs, all_pass)
    seen = staged(faked).play(JOBS)
    assert [one.outcome for one in seen.values()] == ["failed", "passed", "passed"]
    assert faked.boots == 2


def test_a_complaint_at_the_end_is_the_last_ones(staged: Callable[[Lab], Stage]) -> None:
    def complains_late(jobs: list[str], say: Callable[[bytes], None]) -> int:
        all_pass(jobs, say)
        raise lab.KernelReportError("the kernel reported a bug", [REPORT])

    seen = staged(Lab(complains_late)).play(JOBS)
    assert [one.outcome for one in seen.values()] == ["passed", "passed", "failed"]


def test_a_complaint_before_the_first_scenario_is_no_verdict(
    staged: Callable[[Lab], Stage],
) -> None:
    def goes_down(_jobs: list[str], _say: Callable[[bytes], None]) -> int:
        raise lab.KernelReportError("the guest went down", [REPORT])

    with pytest.raises(lab.KernelReportError):
        staged(Lab(goes_down, silent=True)).play(JOBS)


def test_no_run_is_no_verdict(staged: Callable[[Lab], Stage]) -> None:
    with pytest.raises(lab.LabError, match="the scenarios did not run:\na traceback"):
        staged(Lab(lambda _jobs, _say: 1)).play(JOBS)
