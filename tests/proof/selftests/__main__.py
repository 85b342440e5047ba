# SPDX-License-Identifier: MIT
"""The kernel's own selftests/mm in guests, without a cleaner and beside one: see README.md."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cleanup import lab
from cleanup.lab.progress import on_stderr
from experiments import provenance
from experiments.measure import ExperimentError
from proof.results import replace
from proof.selftests.build import get_programs
from proof.selftests.programs import LEFT_OUT, PROGRAMS
from proof.selftests.sides import Side, both, executed, found
from proof.selftests.verdicts import TIMEOUT, Difference, Report

# Different programs that must have run on both sides.
FEWEST = 25
# Lines of a program's output that are shown where it differs.
LAST_LINES = 20


def document(
    kernel: lab.Kernel, without: Side, beside: Side, differences: Sequence[Difference]
) -> dict[str, Any]:
    """The figures."""
    return {
        "proof": "selftests",
        "commit": provenance.commit(),
        "kernel": kernel.release,
        "accelerator": without.accelerator,
        "programs": executed(without, beside),
        "tests": sum(len(first.verdicts) for first, *_ in without.reports.values()),
        "cleaner": {"rounds": beside.rounds, "freed": beside.freed},
        "differences": [
            {**asdict(difference), "unstable": difference.unstable} for difference in differences
        ],
        "runs": [
            {
                "command": command,
                "without": [_figures(report) for report in reports],
                "beside": [_figures(report) for report in beside.reports[command]],
            }
            for command, reports in without.reports.items()
        ],
        "left_out": LEFT_OUT,
    }


def _figures(report: Report) -> dict[str, Any]:
    return {
        "verdict": report.verdict,
        "tests": Counter(report.tests.values()),
        "seconds": report.seconds,
        "freed": report.freed,
    }


def table(without: Side, beside: Side) -> Table:
    """A line for each program, of its first run on both sides."""
    shown = Table("program", "without", "beside it", "its tests", "freed", "seconds", box=None)
    for command, (first, *_) in without.reports.items():
        other = beside.reports[command][0]
        tests = Counter(first.tests.values())
        shown.add_row(
            command,
            first.verdict,
            other.verdict,
            ", ".join(f"{number} {verdict}" for verdict, number in tests.items()),
            str(sum(other.freed)),
            f"{first.seconds:.1f}, {other.seconds:.1f}",
        )
    return shown


def described(difference: Difference, beside: Side) -> str:
    """What varies, and the last that the program said where that was new."""
    text = (
        f"{'unstable' if difference.unstable else 'DIFFERENT'}: {difference.command}: "
        f"{difference.test or 'as a whole'}: {', '.join(difference.without)} without a cleaner, "
        f"{', '.join(difference.beside)} beside it"
    )
    if difference.unstable:
        return text
    new = next(n for n, each in enumerate(difference.beside) if each not in difference.without)
    lines = beside.reports[difference.command][new].output.splitlines()[-LAST_LINES:]
    return "\n    ".join([text, *lines])


def complaints(without: Side, beside: Side, differences: Sequence[Difference]) -> list[str]:
    """What the proof fails for."""
    told = []
    if changed := sum(not difference.unstable for difference in differences):
        told.append(f"{changed} verdicts differ beside a cleaner")
    # What such a program did not get to can't be compared.
    runs = [run for side in (without, beside) for each in side.reports.values() for run in each]
    if late := sorted({run.command for run in runs if run.verdict == TIMEOUT}):
        told.append(f"out of time: {', '.join(late)}")
    if (number := len(executed(without, beside))) < FEWEST:
        told.append(f"only {number} programs ran on both sides, not {FEWEST}")
    if not sum(beside.freed.values()):
        told.append("the cleaner freed no table")
    return told


@click.command()
@click.option("--kernel", "name", default=lab.DEFAULT, show_default=True, help="As of lab run.")
@click.option(
    "--results",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    metavar="DIR",
    help="Leave the figures there.",
)
def main(name: str, results: Path | None) -> None:
    """Run a kernel's selftests/mm without a cleaner and beside one, and compare the verdicts."""
    begun = time.monotonic()
    progress = on_stderr()
    try:
        kernel = lab.get_kernel(name, progress=progress)
        programs = get_programs(kernel, progress)
        without, beside = both(kernel, programs)
    except (lab.LabError, ExperimentError) as error:
        raise click.ClickException(str(error)) from error
    differences = found(without, beside)
    figures = document(kernel, without, beside, differences)
    figures["seconds"] = round(time.monotonic() - begun, 3)
    if results:
        replace(results / f"selftests-{name}.json", figures)
    Console(width=120).print(table(without, beside))
    for difference in differences:
        click.echo(described(difference, beside))
    known = {program.executable for program in PROGRAMS} | set(LEFT_OUT)
    if unknown := {path.name for path in programs.iterdir()} - known:
        click.echo(f"neither run nor left out for a reason: {', '.join(sorted(unknown))}")
    click.echo(
        f"{kernel.release}: {len(figures['programs'])} programs ran on both sides, "
        f"{figures['tests']} verdicts, {len(differences)} not always the same; the cleaner freed "
        f"{sum(beside.freed.values())} tables in {beside.rounds} rounds; "
        f"{figures['seconds']:.0f} s"
    )
    if told := complaints(without, beside, differences):
        raise click.ClickException("; ".join(told))


if __name__ == "__main__":
    main()
