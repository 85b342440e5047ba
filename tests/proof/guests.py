# SPDX-License-Identifier: MIT
"""Scenarios run in guests of the lab, with this build of the module or that."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import _raw

from cleanup import lab
from cleanup.lab.progress import Progress
from proof.scenarios.__main__ import CUT, KERNEL_COMPLAINED, READY

PROOF = Path(__file__).parent
MODULES = PROOF / "modules"
# Of them, those that scenarios use.
HELPERS = ("delay", "shadow")
SCENARIOS = PROOF / "scenarios"
CPUS = 3
# Beside what a scenario may take: to boot, start Python and end, on a busy machine.
SPARE_SECONDS = 300
# The scenarios bring up the other CPUs: see Delays.  What comes after a report says nothing more.
ARGUMENTS = "maxcpus=1 panic_on_warn=1"


@dataclass(frozen=True)
class Job:
    """A scenario, by its name, such as ``faults.no_write_is_lost``, and its seed."""

    scenario: str
    seed: int

    def __str__(self) -> str:
        return f"{self.scenario}:{self.seed}"


@dataclass(frozen=True)
class Seen:
    """What came of a job: `outcome` is passed, failed or inconclusive; `report` says why."""

    outcome: str
    report: str


def run(
    jobs: Sequence[Job],
    kernel: lab.Kernel,
    *,
    module: Path | None = None,
    seconds: float = 5.0,
    progress: Progress | None = None,
) -> dict[Job, Seen]:
    """Run jobs one after the other, each for so many seconds or until it fails.

    They share guests until a kernel complains, which fails the job: the next one has a kernel
    that was just booted.  Raises LabError where a guest does not come up or dies without a word,
    which says nothing of the module.
    """
    seen: dict[Job, Seen] = {}
    while len(seen) < len(jobs):
        seen |= _run_in_one_guest(jobs[len(seen) :], kernel, module, seconds, progress)
    return seen


def _run_in_one_guest(
    jobs: Sequence[Job],
    kernel: lab.Kernel,
    module: Path | None,
    seconds: float,
    progress: Progress | None,
) -> dict[Job, Seen]:
    """As `run`; of at least one job, and of no more once the kernel complained."""
    module = module or lab.build_module(kernel, progress=progress)
    helpers = {
        name: lab.build_module(kernel, source=MODULES / name, progress=progress) for name in HELPERS
    }
    said = bytearray()
    ready = f"{READY}\n".encode()
    report = ""
    try:
        result = lab.run(
            [
                *[sys.executable, "-P", "-m", "proof.scenarios", f"--seconds={seconds}"],
                *map(str, jobs),
            ],
            kernel=kernel,
            module=module,
            cpus=CPUS,
            numa=2,
            append=ARGUMENTS,
            env={
                "PYTHONPATH": f"{PROOF.parent}:{Path(_raw.__file__).parent}",
                "PGTABLE_CLEANUP_MODULE": str(module),
                "PGTABLE_CLEANUP_DELAY_MODULE": str(helpers["delay"]),
                "PGTABLE_CLEANUP_SHADOW_MODULE": str(helpers["shadow"]),
            },
            visible=[one.parent for one in (module, *helpers.values())],
            timeout=SPARE_SECONDS + 4 * seconds * len(jobs),
            on_stdout=said.extend,
            progress=progress,
        )
        if result.exit_code not in (0, KERNEL_COMPLAINED):
            errors = result.stderr.decode(errors="replace")
            raise lab.LabError(f"the scenarios did not run:\n{errors}")
    except lab.KernelReportError as error:
        if not said.startswith(ready):
            raise
        report = next((line for line in error.reports if CUT not in line), error.reports[0])
    answers = [json.loads(line) for line in said.removeprefix(ready).splitlines()]
    seen = {
        job: Seen(answer["outcome"], answer["report"])
        for job, answer in zip(jobs, answers, strict=False)
    }
    if report and not any(answer["complained"] for answer in answers):
        # In the job that was running, or when the guest ended.
        seen[jobs[min(len(seen), len(jobs) - 1)]] = Seen("failed", report)
    return seen
