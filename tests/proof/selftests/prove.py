# SPDX-License-Identifier: MIT
"""The proof by the kernel's own selftests/mm, without a cleaner and beside one: see README.md."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from proof.selftests.build import get_programs
from proof.selftests.programs import LEFT_OUT, PROGRAMS
from proof.selftests.sides import Side, both, executed, found
from proof.selftests.verdicts import TIMEOUT, Difference, Report
from proof.task import Figures, Outcome, ProofFailed, Task

# The proof fails unless this many different programs ran both without a cleaner and beside one.
FEWEST = 25
# Lines of a program's output that are shown where it differs.
LAST_LINES = 20


def document(without: Side, beside: Side, differences: Sequence[Difference]) -> Figures:
    """Collect the figures of both sides."""
    return {
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
    """Return a table with a line for each program: its first run on each side."""
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
    """Describe a difference; a verdict that is new beside the cleaner comes with its output."""
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
    """Return the reasons why the proof fails."""
    told = []
    if changed := sum(not difference.unstable for difference in differences):
        told.append(f"{changed} verdicts differ beside a cleaner")
    # The tests that a program had no time for can't be compared.
    runs = [run for side in (without, beside) for each in side.reports.values() for run in each]
    if late := sorted({run.command for run in runs if run.verdict == TIMEOUT}):
        told.append(f"out of time: {', '.join(late)}")
    if (number := len(executed(without, beside))) < FEWEST:
        told.append(f"only {number} programs ran on both sides, not {FEWEST}")
    if not sum(beside.freed.values()):
        told.append("the cleaner freed no table")
    return told


def prove(task: Task) -> Outcome:
    """Run the kernel's selftests/mm without a cleaner and beside one, and compare the verdicts."""
    programs = get_programs(task.guests_kernel, task.progress)
    without, beside = both(task.guests_kernel, programs)
    differences = found(without, beside)
    figures = document(without, beside, differences)
    Console(width=120, stderr=True).print(table(without, beside))
    for difference in differences:
        click.echo(described(difference, beside), err=True)
    known = {program.executable for program in PROGRAMS} | set(LEFT_OUT)
    if unknown := {path.name for path in programs.iterdir()} - known:
        click.echo(f"neither run nor left out for a reason: {', '.join(sorted(unknown))}", err=True)
    if told := complaints(without, beside, differences):
        raise ProofFailed("; ".join(told))
    return Outcome(figures, "\n".join([without.log, beside.log]))
