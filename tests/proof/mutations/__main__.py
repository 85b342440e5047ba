# SPDX-License-Identifier: MIT
"""Every protection of the module off, one at a time: is it noticed?

    python -m proof.mutations run --kernel 6.12
    python -m proof.mutations look --kernel 6.12
    python -m proof.mutations table

A mutation is caught where its scenario fails in at least four of five runs and passes in every
run of the module as it is, with the same seeds.  What is done already is not done again until the
module, the mutation or its scenario changes.
"""

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import click

from cleanup import lab
from cleanup.errors import CleanupError
from cleanup.lab.progress import Progress, on_stderr
from experiments.provenance import commit
from proof import guests, results
from proof.guests import Job, Seen
from proof.mutations.catalog import MUTATIONS, Mutation
from proof.mutations.mutate import KMOD, mutate
from proof.mutations.table import markdown
from proof.turn import number_of_commits

RESULTS = Path("evidence/proofs/mutations.json")
TABLE = Path("docs/mutations.md")
CAUGHT_SHARE = 0.8


class Verdict(TypedDict):
    """One mutation on one kernel."""

    name: str
    kernel: str
    caught: bool
    runs: int
    caught_runs: int
    passed_unmutated: bool
    scenario: str
    seed: int
    commit: str | None
    made_of: str
    report: str


@click.group()
def main() -> None:
    """See the module."""


_kernel = click.option("--kernel", "names", multiple=True, type=click.Choice(list(lab.SOURCES)))
_only = click.option(
    "--only", multiple=True, metavar="TEXT", help="Mutations with this in their names."
)
_runs = click.option("--runs", type=click.IntRange(1), default=5, show_default=True)
_seed = click.option("--seed", type=int, default=1, show_default=True, help="Of the first run.")
_seconds = click.option("--seconds", type=float, default=5.0, show_default=True, help="Of a run.")


@main.command("run")
@_kernel
@_only
@_runs
@_seed
@_seconds
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, show_default=True
)
def run_command(
    names: tuple[str, ...], only: tuple[str, ...], runs: int, seed: int, seconds: float, out: Path
) -> None:
    """Run the mutations that matter on the debug kernels, all by default."""
    progress = on_stderr()
    missed = []
    for name in names or lab.SOURCES:
        kernel = lab.get_debug_kernel(name, "debug", progress=progress)
        bench = Bench(kernel, range(seed, seed + runs), seconds, progress)
        wanted = _wanted(name, only)
        known = _known(out, kernel, runs, seed, wanted)
        for mutation in wanted:
            verdict = known.get(mutation.name)
            if verdict is None:
                verdict = bench.judge(mutation)
                _store(out, verdict)
            click.echo(
                f"{kernel.release}: {mutation.name}: caught in {verdict['caught_runs']} of {runs}: "
                f"{verdict['report']}"
            )
            if not verdict["caught"]:
                missed.append(f"{mutation.name} on {name}")
    _end(missed)


@main.command("look")
@_kernel
@_only
@_runs
@_seed
@_seconds
@click.option("--minutes", type=float, help="Begin none after that; the first one is in turn.")
def look_command(
    names: tuple[str, ...],
    only: tuple[str, ...],
    runs: int,
    seed: int,
    seconds: float,
    minutes: float | None,
) -> None:
    """Only look whether each is caught at all: by one run in so many.  No verdict is kept."""
    progress = on_stderr()
    end = time.monotonic() + 60 * minutes if minutes else math.inf
    missed = []
    for name in names or lab.SOURCES:
        kernel = lab.get_debug_kernel(name, "debug", progress=progress)
        bench = Bench(kernel, range(seed, seed + runs), seconds, progress)
        wanted = _wanted(name, only)
        first = number_of_commits() % len(wanted) if minutes and wanted else 0
        for mutation in wanted[first:] + wanted[:first]:
            if time.monotonic() >= end:
                click.echo(f"{kernel.release}: {mutation.name}: not looked at: no time is left")
                continue
            caught, report = bench.look(mutation)
            said = "caught" if caught else "not caught"
            click.echo(f"{kernel.release}: {mutation.name}: {said}: {report}")
            if not caught:
                missed.append(f"{mutation.name} on {name}")
    _end(missed)


def _wanted(kernel: str, only: tuple[str, ...]) -> list[Mutation]:
    return [
        mutation
        for mutation in MUTATIONS
        if kernel in mutation.kernels and all(text in mutation.name for text in only)
    ]


def _end(missed: Sequence[str]) -> None:
    if missed:
        raise click.ClickException(f"not caught: {', '.join(missed)}")


@main.command("table")
@click.option("--results", "stored", type=click.Path(exists=True, path_type=Path), default=RESULTS)
def table_command(stored: Path) -> None:
    """Write docs/mutations.md."""
    TABLE.write_text(markdown(json.loads(stored.read_text())["mutations"]))


class Bench:
    """Runs of one kernel, of `seconds` each, one with each seed."""

    def __init__(
        self, kernel: lab.Kernel, seeds: Sequence[int], seconds: float, progress: Progress
    ) -> None:
        self._kernel = kernel
        self._seeds = seeds
        self._seconds = seconds
        self._progress = progress
        self._unmutated: dict[Job, Seen] = {}

    def judge(self, mutation: Mutation) -> Verdict:
        """Run its scenario with the module as it is, and with the protection off.

        In guests of its own: probes where others have theirs would slow it down.  Raises LabError.
        """
        jobs = [Job(mutation.scenario, seed) for seed in self._seeds]
        if missing := [job for job in jobs if job not in self._unmutated]:
            self._unmutated |= self._play(missing)
        usual = [self._unmutated[job] for job in jobs]
        passed = all(one.outcome == "passed" for one in usual)
        if passed:
            seen = self._play(jobs, self._build(mutation))
            reports = [one.report for one in seen.values() if one.outcome == "failed"]
            caught = len(reports)
            reports += [f"{one.outcome} {one.report}".strip() for one in seen.values()]
        else:
            caught = 0
            reports = [
                f"the module as it is {one.outcome}: {one.report}"
                for one in usual
                if one.outcome != "passed"
            ]
        return {
            "name": mutation.name,
            "kernel": self._kernel.release,
            "caught": caught >= CAUGHT_SHARE * len(jobs),
            "runs": len(jobs),
            "caught_runs": caught,
            "passed_unmutated": passed,
            "scenario": mutation.scenario,
            "seed": self._seeds[0],
            "commit": commit(),
            "made_of": made_of(mutation),
            "report": reports[0],
        }

    def look(self, mutation: Mutation) -> tuple[bool, str]:
        """Run its scenario seed by seed until it is caught: whether, and why.  Raises LabError."""
        module = self._build(mutation)
        report = ""
        for job in [Job(mutation.scenario, seed) for seed in self._seeds]:
            if job not in self._unmutated:
                self._unmutated |= self._play([job])
            usual = self._unmutated[job]
            if usual.outcome == "failed":
                return False, f"the module as it is failed: {usual.report}"
            if usual.outcome == "passed":
                seen = self._play([job], module)[job]
                if seen.outcome == "failed":
                    return True, seen.report
                report = f"{seen.outcome} {seen.report}".strip()
        return False, report

    def _play(self, jobs: Sequence[Job], module: Path | None = None) -> dict[Job, Seen]:
        return guests.run(
            jobs, self._kernel, module=module, seconds=self._seconds, progress=self._progress
        )

    def _build(self, mutation: Mutation) -> Path:
        with tempfile.TemporaryDirectory(prefix="mutation.") as directory:
            return lab.build_module(
                self._kernel,
                source=mutate(mutation, Path(directory)),
                progress=self._progress,
            )


def _stored(path: Path) -> list[Verdict]:
    try:
        found: list[Verdict] = json.loads(path.read_text())["mutations"]
    except FileNotFoundError:
        return []
    return found


def made_of(mutation: Mutation) -> str:
    """A hash of what the verdict on a mutation depends on beside the kernel."""
    scenario = guests.SCENARIOS / f"{mutation.scenario.partition('.')[0]}.py"
    files = [path for path in sorted(KMOD.rglob("*.[ch]")) if not path.name.endswith(".mod.c")]
    files += [guests.MODULES / name / f"{name}.c" for name in guests.HELPERS]
    files += [guests.SCENARIOS / "races.py", scenario]
    digest = hashlib.sha256(repr(mutation).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _known(
    path: Path, kernel: lab.Kernel, runs: int, seed: int, wanted: Sequence[Mutation]
) -> dict[str, Verdict]:
    """The verdicts there are already, by mutation; none where the module as it is did not pass.

    That may be for want of a race, on a busy machine.
    """
    same = {(one.name, kernel.release, runs, seed, made_of(one)) for one in wanted}
    return {
        one["name"]: one
        for one in _stored(path)
        if one["passed_unmutated"]
        and (one["name"], one["kernel"], one["runs"], one["seed"], one["made_of"]) in same
    }


def _store(path: Path, verdict: Verdict) -> None:
    """In place of an older one of that mutation and kernel, whole or not at all."""
    place = (verdict["name"], verdict["kernel"])
    with results.alone(path):
        verdicts = [one for one in _stored(path) if (one["name"], one["kernel"]) != place]
        results.replace(path, {"mutations": [*verdicts, verdict]})


if __name__ == "__main__":
    try:
        main.main(prog_name="proof.mutations")
    except CleanupError as error:
        raise SystemExit(f"proof.mutations: {error}") from None
