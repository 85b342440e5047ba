# SPDX-License-Identifier: MIT
"""Runs selftests in guests, without a cleaner and beside one."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from cleanup import _uapi, lab
from proof.selftests.programs import PROGRAMS
from proof.selftests.verdicts import (
    Difference,
    Report,
    differences,
    differing,
    of_program,
    of_tests,
)
from proof.task import PYTHON, PYTHONPATH, pass_on

# A program whose verdicts differ is run this many more times on each side.
MORE_RUNS = 3
# The tests of migration need at least three processors on two NUMA nodes.
MACHINE = lab.Machine(memory="3G", disk="1G", cpus=3, numa=2)
# Seconds for what a guest does between programs.
BESIDES = 180.0


class Side:
    """Runs programs in guests, all without a cleaner or all beside one."""

    def __init__(self, kernel: lab.Kernel, programs: Path, *, cleaner: bool) -> None:
        self._kernel = kernel
        self._programs = programs
        self._cleaner = cleaner
        self.log = ""
        """What the kernels of its guests logged."""
        self.rounds = 0
        """How often the cleaner went over all processes."""
        self.accelerator = ""
        self.reports: dict[str, list[Report]] = {}
        """The reports of each command, run by run."""

    def run(self, commands: Sequence[str], times: int = 1) -> None:
        """Run each command this many times, all in one guest.

        Raises LabError if the guest does not come up, or its kernel reports a bug.
        """
        limits = sum(program.limit for program in PROGRAMS if program.command in commands)
        options = ["--cleaner"] if self._cleaner else []
        with lab.boot(self._kernel, MACHINE, visible=[self._programs]) as guest:
            result = guest.run(
                [
                    *(*PYTHON, "proof.selftests.in_guest", str(self._programs)),
                    *(*options, f"--times={times}", "--", *commands),
                ],
                env={"PYTHONPATH": PYTHONPATH},
                timeout=BESIDES + times * limits,
                on_stderr=pass_on,
            )
        if result.exit_code:
            raise lab.LabError(f"the programs did not run: exit code {result.exit_code}")
        self.log += result.dmesg
        document = json.loads(result.stdout)
        self.rounds += document["rounds"]
        self.accelerator = result.accelerator
        for run in document["runs"]:
            tests = of_tests(run["output"])
            report = Report(
                command=run["command"],
                verdict=of_program(run["exit_code"], tests),
                tests=tests,
                seconds=run["seconds"],
                output=run["output"],
                freed=tuple(run["freed"]),
            )
            self.reports.setdefault(report.command, []).append(report)

    @property
    def freed(self) -> dict[str, int]:
        """Return how many tables the cleaner freed while programs ran, by level."""
        reports = [report for runs in self.reports.values() for report in runs]
        return {
            level: sum(report.freed[number] for report in reports)
            for number, level in enumerate(_uapi.LEVELS)
        }


def both(kernel: lab.Kernel, programs: Path) -> tuple[Side, Side]:
    """Run a kernel's programs on both sides; if verdicts differ, run a program MORE_RUNS more."""
    without, beside = (Side(kernel, programs, cleaner=cleaner) for cleaner in (False, True))
    commands = [each.command for each in PROGRAMS if (programs / each.executable).exists()]
    for side in (without, beside):
        side.run(commands)
    again = [
        command
        for command in commands
        if differing(without.reports[command][0], beside.reports[command][0])
    ]
    if again:
        click.echo(f"verdicts differ, {MORE_RUNS} more runs of: {', '.join(again)}", err=True)
        for side in (without, beside):
            side.run(again, MORE_RUNS)
    return without, beside


def found(without: Side, beside: Side) -> list[Difference]:
    """Return every verdict that was not the same in all runs."""
    return [
        difference
        for command, reports in without.reports.items()
        for difference in differences(reports, beside.reports[command])
    ]


def executed(without: Side, beside: Side) -> list[str]:
    """Return the programs that ended, and did not skip every test, on both sides."""
    return sorted(
        {
            command.split()[0]
            for command, (first, *_) in without.reports.items()
            if first.tried and beside.reports[command][0].tried
        }
    )
