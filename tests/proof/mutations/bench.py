# SPDX-License-Identifier: MIT
"""Judges mutations, each of which switches one protection of the module off: is it noticed?

A mutation is caught where its scenario fails with the protection off, and passes with the module
as it is.  A verdict stands until the module, the mutation or its scenario changes.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from cleanup import lab
from cleanup.lab.progress import Progress
from proof import content
from proof.guests import HELPERS, Job, Seen, Stage
from proof.mutations.catalog import MUTATIONS, Mutation
from proof.mutations.mutate import mutate
from proof.task import ProofFailed

# Runs have seeds from this one on, so that each proof repeats the same runs.
FIRST_SEED = 1
# A mutation is caught in a long proof if this share of its runs fails, in a short one if any does.
CAUGHT_SHARE = 0.8


class Verdict(TypedDict):
    """The verdict on one mutation on one kernel, and the runs that it comes from."""

    name: str
    kernel: str
    caught: bool
    runs: int
    caught_runs: int
    passed_unmutated: bool
    scenario: str
    seed: int
    made_of: str
    report: str


def wanted(kernel: str, only: str = "") -> list[Mutation]:
    """Return the mutations that matter on a line of kernels and have `only` in their names."""
    return [one for one in MUTATIONS if kernel in one.kernels and only in one.name]


def made_of(mutation: Mutation, kernel: str) -> str:
    """Hash what a verdict depends on beside the kernel."""
    scenario = f"proof/scenarios/{mutation.scenario.partition('.')[0]}.py"
    return content.combined(
        content.of_module(kernel),
        content.of_sources(scenario, *(f"proof/modules/{name}" for name in HELPERS)),
        repr(mutation),
    )


def standing(kernel: lab.Kernel, line: str, verdicts: Iterable[Verdict]) -> dict[str, Verdict]:
    """Return the verdicts that still stand, by mutation; a mutation not caught is judged again."""
    current = {one.name: made_of(one, line) for one in wanted(line)}
    return {
        one["name"]: one
        for one in verdicts
        if one["caught"] and one["kernel"] == kernel.release
        if one.get("made_of") == current.get(one["name"])
    }


class Bench:
    """Judges mutations on one kernel."""

    def __init__(self, line: str, kernel: lab.Kernel, tries: int, progress: Progress) -> None:
        """Prepare a bench for a line of kernels; `tries` is how often a scenario is played."""
        self._line = line
        self._kernel = kernel
        self._seeds = range(FIRST_SEED, FIRST_SEED + tries)
        self._progress = progress
        self._unmutated: dict[Job, Seen] = {}
        self.logs: list[str] = []

    def judge_all(self, mutations: Sequence[Mutation], *, full: bool) -> Iterator[Verdict]:
        """Yield a verdict on each mutation.

        With `full`, each mutation is played with all seeds, in a guest of its own.  Without, it is
        played until it is caught, and all mutations share a guest until its kernel complains.
        """
        builds = [self._build(one) for one in mutations]
        judge = self._judge if full else self._look
        with Stage(self._kernel, builds, progress=self._progress) as stage:
            self.logs = stage.logs
            for mutation, build in zip(mutations, builds, strict=True):
                yield judge(stage, mutation, build)

    def _look(self, stage: Stage, mutation: Mutation, build: Path) -> Verdict:
        """Play a mutation's scenario until the mutation is caught."""
        jobs = self._jobs_of(mutation)
        usual = self._usual(stage, jobs, until="passed")
        outcomes = {one.outcome for one in usual}
        if "failed" in outcomes or "passed" not in outcomes:
            return self._verdict(mutation, usual, [])
        seen = list(stage.play(jobs, build, until="failed").values())
        return self._verdict(mutation, [one for one in usual if one.outcome == "passed"], seen)

    def _judge(self, stage: Stage, mutation: Mutation, build: Path) -> Verdict:
        """Play the scenario with each seed, with the module as it is and with the mutation."""
        jobs = self._jobs_of(mutation)
        usual = self._usual(stage, jobs)
        if any(one.outcome != "passed" for one in usual):
            return self._verdict(mutation, usual, [])
        seen = list(stage.play(jobs, build).values())
        stage.leave()
        return self._verdict(mutation, usual, seen, CAUGHT_SHARE)

    def _jobs_of(self, mutation: Mutation) -> list[Job]:
        return [Job(mutation.scenario, seed) for seed in self._seeds]

    def _usual(self, stage: Stage, jobs: Sequence[Job], until: str | None = None) -> list[Seen]:
        """Return what came of jobs with the module as it is; play those not played before."""
        if until and any(
            one in self._unmutated and self._unmutated[one].outcome == until for one in jobs
        ):
            return [self._unmutated[one] for one in jobs if one in self._unmutated]
        missing = [one for one in jobs if one not in self._unmutated]
        mutated = stage.mutated
        seen = stage.play(missing, until=until) if missing else {}
        if mutated and any(one.outcome == "failed" for one in seen.values()):
            # A mutation may have damaged this guest: play the module as it is again, in a new one.
            stage.leave()
            seen = stage.play(missing, until=until)
        self._unmutated |= seen
        return [self._unmutated[one] for one in jobs if one in self._unmutated]

    def _verdict(
        self, mutation: Mutation, usual: Sequence[Seen], seen: Sequence[Seen], share: float = 0.0
    ) -> Verdict:
        failed = [one.report for one in seen if one.outcome == "failed"]
        if seen:
            reports = failed + [f"{one.outcome} {one.report}".strip() for one in seen]
        else:
            reports = [
                f"the module as it is {one.outcome}: {one.report}"
                for one in usual
                if one.outcome != "passed"
            ]
        return {
            "name": mutation.name,
            "kernel": self._kernel.release,
            "caught": bool(failed) and len(failed) >= share * len(seen),
            "runs": len(seen),
            "caught_runs": len(failed),
            "passed_unmutated": bool(seen),
            "scenario": mutation.scenario,
            "seed": FIRST_SEED,
            "made_of": made_of(mutation, self._line),
            "report": reports[0],
        }

    def _build(self, mutation: Mutation) -> Path:
        with tempfile.TemporaryDirectory(prefix="mutation.") as directory:
            try:
                source = mutate(mutation, Path(directory))
            except ValueError as error:
                raise ProofFailed(f"the protection is not where it was: {error}") from error
            return lab.build_module(self._kernel, source=source, progress=self._progress)
