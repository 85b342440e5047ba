# SPDX-License-Identifier: MIT
"""Tests of the catalog of mutations and of verdicts on them; `make prove` runs the mutations."""

import inspect
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest

from cleanup import lab
from cleanup.lab.progress import Silent
from proof.guests import Job, Seen, Stage
from proof.mutations.bench import Bench, Verdict, made_of, standing, wanted
from proof.mutations.catalog import ALL, MUTATIONS, Edit, Mutation
from proof.mutations.mutate import KMOD, mutate
from proof.mutations.table import markdown
from proof.task import ProofFailed


def verdict(**more: Any) -> dict[str, Any]:  # noqa: ANN401 -- what JSON holds
    return {
        "name": "i_mmap lock",
        "kernel": "6.12.1-debug",
        "caught": True,
        "runs": 5,
        "caught_runs": 4,
        "report": "BUG: a | b",
        **more,
    }


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_changes_the_module_that_there_is(mutation: Mutation, tmp_path: Path) -> None:
    copy = mutate(mutation, tmp_path)
    for edit in mutation.edits:
        assert (copy / edit.file).read_text() != (KMOD / edit.file).read_text()
    assert set(mutation.kernels) <= set(ALL)
    assert bool(mutation.elsewhere) == (set(mutation.kernels) != set(ALL))
    module, _, function = mutation.scenario.partition(".")
    assert inspect.isfunction(getattr(import_module(f"proof.scenarios.{module}"), function))


def test_an_edit_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    stale = Mutation("stale", [Edit("scan.c", "no such text", "")], "faults.no_write_is_lost")
    with pytest.raises(ValueError, match=r"stale: scan\.c has 0 times 'no such text'"):
        mutate(stale, tmp_path)


def test_a_protection_that_is_gone_fails_the_proof(bench: Bench) -> None:
    """A mutation whose text is not in the source fails the proof: its protection is gone."""
    stale = Mutation("stale", [Edit("scan.c", "no such text", "")], "faults.no_write_is_lost")
    with pytest.raises(ProofFailed, match=r"not where it was: stale: scan\.c has 0 times"):
        next(bench.judge_all([stale], full=False))


def test_the_table_says_where_a_protection_does_not_matter() -> None:
    lines = markdown([verdict()]).splitlines()
    assert "| i_mmap lock | 6.12.1-debug | 4 of 5 | `BUG: a ¦ b` |" in lines
    assert any(
        line.startswith("| VMA locks | 6.1 | does not matter | 6.4 brought") for line in lines
    )


class FakeStage:
    """Stands in for a Stage: looks up outcomes by seed and by whether the protection is off."""

    def __init__(self, outcomes: dict[tuple[int, bool], str], *, mutated: bool = False) -> None:
        self.outcomes = outcomes
        self.mutated = mutated
        self.played: list[tuple[int, bool]] = []

    def play(
        self, jobs: Sequence[Job], build: Path | None = None, *, until: str | None = None
    ) -> dict[Job, Seen]:
        seen = {}
        for job in jobs:
            key = job.seed, build is not None
            self.played.append(key)
            outcome = self.outcomes[key]
            seen[job] = Seen(outcome, f"{outcome} {job.seed}")
            if outcome == until:
                break
        return seen

    def leave(self) -> None:
        """Pretend to boot another guest, which no mutation has touched."""
        self.outcomes = {**self.outcomes, **dict.fromkeys(((1, False),), "passed")}
        self.mutated = False


@pytest.fixture
def bench() -> Bench:
    kernel = lab.Kernel("6.12", "6.12.1-debug", Path(), Path(), Path())
    return Bench("6.12", kernel, 3, Silent())


def look(bench: Bench, stage: FakeStage) -> Verdict:
    return bench._look(cast(Stage, stage), MUTATIONS[0], Path("mutated.ko"))


def test_a_look_ends_with_the_run_that_catches(bench: Bench) -> None:
    outcomes = {
        (1, False): "inconclusive",
        (2, False): "passed",
        (1, True): "passed",
        (2, True): "failed",
    }
    stage = FakeStage(outcomes)
    found = look(bench, stage)
    assert (found["caught"], found["caught_runs"], found["runs"]) == (True, 1, 2)
    assert found["report"] == "failed 2"
    assert stage.played == list(outcomes)
    # For all mutations that share a scenario, the unmutated module plays it only once.
    look(bench, stage)
    assert stage.played == [*outcomes, (1, True), (2, True)]


def test_what_is_never_caught_is_tried_with_each_seed(bench: Bench) -> None:
    outcomes = {(1, False): "passed", **{(seed, True): "passed" for seed in (1, 2, 3)}}
    found = look(bench, FakeStage(outcomes))
    assert (found["caught"], found["runs"]) == (False, 3)


def test_a_look_catches_nothing_where_the_module_itself_fails(bench: Bench) -> None:
    """A scenario that also fails on the unmutated module doesn't show that a mutation is caught."""
    always = dict.fromkeys(((seed, off) for seed in (1, 2, 3) for off in (True, False)), "failed")
    found = look(bench, FakeStage(always))
    assert not found["caught"]
    assert found["report"] == "the module as it is failed: failed 1"


def test_one_failure_of_the_module_itself_is_enough(bench: Bench) -> None:
    found = look(bench, FakeStage({(1, False): "failed", (2, False): "passed"}))
    assert not found["caught"]


def test_a_look_catches_nothing_where_there_is_no_race(bench: Bench) -> None:
    never = {(seed, False): "inconclusive" for seed in (1, 2, 3)}
    assert not look(bench, FakeStage(never))["caught"]


def test_what_a_mutation_left_in_its_guest_is_not_the_modules_fault(bench: Bench) -> None:
    outcomes = {(1, False): "failed", (2, False): "passed", (1, True): "failed"}
    assert look(bench, FakeStage(outcomes, mutated=True))["caught"]


def test_at_length_four_of_five_runs_must_catch(bench: Bench) -> None:
    usual = {(seed, False): "passed" for seed in (1, 2, 3)}
    for outcomes, caught in ((("failed", "failed", "passed"), False), (("failed",) * 3, True)):
        mutated = {(seed, True): outcome for seed, outcome in enumerate(outcomes, 1)}
        stage = cast(Stage, FakeStage(usual | mutated))
        assert bench._judge(stage, MUTATIONS[0], Path("mutated.ko"))["caught"] == caught


def test_a_verdict_stands_until_something_changes() -> None:
    kernel = lab.Kernel("6.12", "6.12.1-debug", Path(), Path(), Path())
    mutation = wanted("6.12")[0]
    stands: Any = verdict(name=mutation.name, made_of=made_of(mutation, "6.12"))
    changed = {**stands, "made_of": "another module"}
    missed = {**stands, "caught": False}
    elsewhere = {**stands, "kernel": "6.12.2-debug"}
    without = {name: value for name, value in stands.items() if name != "made_of"}
    others = cast(list[Verdict], [changed, missed, elsewhere, without])
    assert standing(kernel, "6.12", [stands]) == {mutation.name: stands}
    assert standing(kernel, "6.12", others) == {}
