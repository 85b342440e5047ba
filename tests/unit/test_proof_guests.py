# SPDX-License-Identifier: MIT
"""What is made of the guests that play scenarios; the guests are faked."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cleanup import lab
from proof import guests
from proof.guests import Job, Seen
from unit.test_lab_guest import made_result

KERNEL = lab.Kernel("6.12-debug", "6.12.1", Path("tree"), Path("vmlinuz"), Path("modules"))
JOBS = [Job("faults.no_write_is_lost", seed) for seed in (1, 2, 3)]
PASSED = Seen("passed", "")
REPORT = "BUG: KASAN: use-after-free in walker"

Guest = Callable[[list[str], Callable[[bytes], None]], int]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict[Job, Seen], list[list[str]]]]:
    """Run JOBS in guests that do what they are told, one after the other."""

    def played(*told: Guest, silent: bool = False) -> tuple[dict[Job, Seen], list[list[str]]]:
        given: list[list[str]] = []
        left = list(told)

        def run(command: Sequence[str], **options: Any) -> lab.GuestResult:  # noqa: ANN401
            jobs = [word for word in command if ":" in word]
            given.append(jobs)
            if not silent:
                options["on_stdout"](b"ready\n")
            code = left.pop(0)(jobs, options["on_stdout"])
            return made_result(exit_code=code, stderr=b"a traceback", kernel_release="6.12.1")

        monkeypatch.setattr(lab, "run", run)
        monkeypatch.setattr(lab, "build_module", lambda *_args, **_more: Path("dir/module.ko"))
        return guests.run(JOBS, KERNEL), given

    return played


def answer(
    job: str, outcome: str = "passed", report: str = "", *, complained: bool = False
) -> bytes:
    line = {"job": job, "outcome": outcome, "report": report, "complained": complained}
    return json.dumps(line).encode() + b"\n"


def all_pass(jobs: list[str], say: Callable[[bytes], None]) -> int:
    for job in jobs:
        say(answer(job))
    return 0


def test_one_guest_plays_all(play: Any) -> None:  # noqa: ANN401
    seen, given = play(all_pass)
    assert seen == dict.fromkeys(JOBS, PASSED)
    assert given == [[str(job) for job in JOBS]]


def test_a_lost_byte_does_not_end_the_guest(play: Any) -> None:  # noqa: ANN401
    def second_fails(jobs: list[str], say: Callable[[bytes], None]) -> int:
        say(answer(jobs[0]) + answer(jobs[1], "failed", "AssertionError: 00") + answer(jobs[2]))
        return 0

    seen, given = play(second_fails)
    assert [one.outcome for one in seen.values()] == ["passed", "failed", "passed"]
    assert len(given) == 1


@pytest.mark.parametrize("dead", [True, False], ids=["the guest is dead", "the scenario says so"])
def test_after_a_complaint_the_rest_gets_another_guest(play: Any, dead: bool) -> None:  # noqa: ANN401
    def second_complains(jobs: list[str], say: Callable[[bytes], None]) -> int:
        say(answer(jobs[0]))
        if not dead:
            say(answer(jobs[1], "failed", REPORT, complained=True))
        raise lab.KernelReportError("the guest went down", ["---[ cut here ]---", REPORT])

    seen, given = play(second_complains, all_pass)
    assert seen == {JOBS[0]: PASSED, JOBS[1]: Seen("failed", REPORT), JOBS[2]: PASSED}
    assert given[1] == [str(JOBS[2])]


def test_a_complaint_at_the_end_is_the_last_ones(play: Any) -> None:  # noqa: ANN401
    def complains_late(jobs: list[str], say: Callable[[bytes], None]) -> int:
        all_pass(jobs, say)
        raise lab.KernelReportError("the kernel reported a bug", [REPORT])

    seen, _ = play(complains_late)
    assert seen == {JOBS[0]: PASSED, JOBS[1]: PASSED, JOBS[2]: Seen("failed", REPORT)}


def test_a_complaint_before_the_first_scenario_is_no_verdict(play: Any) -> None:  # noqa: ANN401
    def goes_down(_jobs: list[str], _say: Callable[[bytes], None]) -> int:
        raise lab.KernelReportError("the guest went down", [REPORT])

    with pytest.raises(lab.KernelReportError):
        play(goes_down, silent=True)


def test_no_run_is_no_verdict(play: Any) -> None:  # noqa: ANN401
    with pytest.raises(lab.LabError, match="the scenarios did not run:\na traceback"):
        play(lambda _jobs, _say: 1)
