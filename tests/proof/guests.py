# SPDX-License-Identifier: MIT
"""Plays scenarios in guests of the lab, with the module as it is or another build of it."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import _raw

from cleanup import lab
from cleanup.lab.progress import Progress
from proof.scenarios.__main__ import CUT, KERNEL_COMPLAINED, READY

PROOF = Path(__file__).parent
MODULES = PROOF / "modules"
# Modules that scenarios need beside the module itself or a mutation of it.
HELPERS = ("delay", "shadow")
SCENARIOS = PROOF / "scenarios"
# Seconds that a busy machine may take to start Python and to end, beside the scenarios themselves.
SPARE_SECONDS = 300
# CPUs 1 and 2 come up once Delays are set.  A warning ends the guest: later results prove nothing.
MACHINE = lab.Machine(cpus=3, numa=2, append="maxcpus=1 panic_on_warn=1")


@dataclass(frozen=True)
class Job:
    """A scenario, by its name, such as ``faults.no_write_is_lost``, and its seed."""

    scenario: str
    seed: int

    def __str__(self) -> str:
        return f"{self.scenario}:{self.seed}"


@dataclass(frozen=True)
class Seen:
    """The result of a job: `outcome` is passed, failed or inconclusive; `report` says why."""

    outcome: str
    report: str
    complained: bool = False
    """Whether the kernel complained, and is not to be trusted since."""


@dataclass
class Stage:
    """Plays scenarios in one guest, and in a new one whenever the guest's kernel has complained.

    `builds` are the other builds of the module that `play` may get: a guest sees only the files
    that were named when it booted.
    """

    kernel: lab.Kernel
    builds: Sequence[Path] = ()
    seconds: float = 5.0
    """How long a job takes, unless it fails."""
    progress: Progress | None = None
    logs: list[str] = field(default_factory=list)
    """What the kernels logged, command by command."""
    mutated: bool = False
    """Whether the open guest has had another build loaded than the module as it is."""
    _guest: lab.Guest | None = None
    _loaded: Path | None = None

    def __post_init__(self) -> None:
        """Build the module and the helpers."""
        self.module = lab.build_module(self.kernel, progress=self.progress)
        self._helpers = {
            name: lab.build_module(self.kernel, source=MODULES / name, progress=self.progress)
            for name in HELPERS
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._guest is None:
            return
        if error is None and not self.mutated:
            # Closing the guest checks the kernel's log for a last time.
            self._guest.close()
        self.leave()

    def leave(self) -> None:
        """End the guest, so that the next job gets one that was just booted."""
        if self._guest is not None:
            self._guest.end("another is to be played in")
        self._guest = None
        self.mutated = False

    def play(
        self, jobs: Sequence[Job], build: Path | None = None, *, until: str | None = None
    ) -> dict[Job, Seen]:
        """Play jobs one after the other with a build, until the outcome of one is `until`.

        A complaint of the kernel fails the job that was being played, and the next one gets a guest
        that was just booted.  Raises LabError if a guest does not come up or dies without a word,
        which says nothing about the module.
        """
        seen: dict[Job, Seen] = {}
        while len(seen) < len(jobs):
            seen |= self._play_in_one_guest(jobs[len(seen) :], build or self.module, until)
            last = list(seen.values())[-1]
            if last.complained:
                self.leave()
            if last.outcome == until:
                break
        return seen

    def _play_in_one_guest(
        self, jobs: Sequence[Job], build: Path, until: str | None
    ) -> dict[Job, Seen]:
        """Play at least one of the jobs, and no more once the kernel has complained."""
        said = bytearray()
        ready = f"{READY}\n".encode()
        report = ""
        try:
            guest = self._booted()
            loaded, self._loaded = self._loaded, build
            self.mutated = self.mutated or build != self.module
            result = guest.run(
                self._command(jobs, [] if loaded == build else [f"--load={build}"], until),
                env=self._environment(build),
                timeout=SPARE_SECONDS + 4 * self.seconds * len(jobs),
                on_stdout=said.extend,
            )
            self.logs.append(result.dmesg)
            if result.exit_code not in (0, KERNEL_COMPLAINED):
                errors = result.stderr.decode(errors="replace")
                raise lab.LabError(f"the scenarios did not run:\n{errors}")
        except lab.KernelReportError as error:
            self.leave()
            self.logs.append(str(error))
            if not said.startswith(ready):
                raise
            report = next((line for line in error.reports if CUT not in line), error.reports[0])
        answers = [json.loads(line) for line in said.removeprefix(ready).splitlines()]
        seen = {
            job: Seen(answer["outcome"], answer["report"], answer["complained"])
            for job, answer in zip(jobs, answers, strict=False)
        }
        if report and not any(one.complained for one in seen.values()):
            # The report is about the job that was being played, or came after the last one.
            seen[jobs[min(len(seen), len(jobs) - 1)]] = Seen("failed", report, complained=True)
        return seen

    def _booted(self) -> lab.Guest:
        if self._guest is None or self._guest.ended:
            visible = [one.parent for one in (self.module, *self._helpers.values(), *self.builds)]
            self._guest = lab.boot(self.kernel, MACHINE, visible=visible, progress=self.progress)
            self._loaded = self.module
            self.mutated = False
        return self._guest

    def _command(self, jobs: Sequence[Job], options: Sequence[str], until: str | None) -> list[str]:
        command = [sys.executable, "-P", "-m", "proof.scenarios", f"--seconds={self.seconds}"]
        ends = [f"--until={until}"] if until else []
        return [*command, *options, *ends, *map(str, jobs)]

    def _environment(self, build: Path) -> dict[str, str]:
        return {
            "PYTHONPATH": f"{PROOF.parent}:{Path(_raw.__file__).parent}",
            "PGTABLE_CLEANUP_MODULE": str(build),
            "PGTABLE_CLEANUP_DELAY_MODULE": str(self._helpers["delay"]),
            "PGTABLE_CLEANUP_SHADOW_MODULE": str(self._helpers["shadow"]),
        }
