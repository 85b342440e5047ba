# SPDX-License-Identifier: MIT
"""What a proof is given to run on a kernel, how it runs a command in a guest, what it returns."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import _raw

from cleanup import lab
from cleanup.lab.progress import Progress
from proof.evidence import Scale

TESTS = Path(__file__).parents[1]
MODULES = TESTS / "proof/modules"
# The extensions that only tests use are all built in the directory of _raw.
PYTHONPATH = f"{TESTS}:{Path(_raw.__file__).parent}"
PYTHON = (sys.executable, "-P", "-m")
# A test that hangs ends its guest, with the stacks of all threads.
PYTEST = (*PYTHON, "pytest", "-o", "faulthandler_exit_on_timeout=true")

Figures = dict[str, Any]


class ProofFailed(Exception):
    """The module, or the proof, did not do what it must; the message says what."""


class ProofSkipped(Exception):
    """This machine lacks what the proof needs; the message says what."""


@dataclass(frozen=True)
class Outcome:
    """The result of a proof that passed."""

    figures: Figures
    log: str
    """What the kernels of its guests logged."""


@dataclass(frozen=True)
class Task:
    """What a proof is given to run on one kernel."""

    line: str
    """The line of kernels, such as ``6.12``, or ``host``."""
    kernel: lab.Kernel | None
    """The kernel of the guests, or None for a proof on the host."""
    scale: Scale
    amount: int
    """How much is to be done, in the proof's own unit."""
    seed: int
    work: Path
    """An empty directory for what the guest writes."""
    progress: Progress
    only: str = ""
    """Run only the parts with this text in their names; nothing is stored then."""
    hardware: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the machine that replace those of the proof."""
    known: Mapping[str, Any] = field(default_factory=dict)
    """What this proof stored before, or kept when it was interrupted."""

    @property
    def guests_kernel(self) -> lab.Kernel:
        """Return the kernel of the guests; only a proof on the host has none."""
        assert self.kernel is not None
        return self.kernel

    def helper(self, name: str) -> Path:
        """Build a module of proof/modules for the kernel, and return the .ko."""
        return lab.build_module(self.guests_kernel, source=MODULES / name, progress=self.progress)

    def in_guest(
        self,
        machine: lab.Machine,
        command: Sequence[str],
        *,
        timeout: float,
        visible: Sequence[Path] = (),
    ) -> Outcome:
        """Run a command in a guest of its own, and collect the figures that it leaves.

        Raises ProofFailed if the command fails, and LabError as the lab does.
        """
        with lab.boot(
            self.guests_kernel,
            replace(machine, **self.hardware),
            visible=visible,
            writable=self.work,
            progress=self.progress,
        ) as guest:
            done = guest.run(
                command,
                env={"PYTHONPATH": PYTHONPATH},
                timeout=timeout,
                results=self.work,
                on_stdout=pass_on,
                on_stderr=pass_on,
            )
        if done.exit_code:
            raise ProofFailed(f"exit code {done.exit_code}: {command[-1]}")
        return Outcome(self.left(), done.dmesg)

    def left(self) -> Figures:
        """Return the kept figures: those in figures.json, and those of other files by file name."""
        files = sorted(self.work.glob("*.json"))
        found: Figures = {file.stem: json.loads(file.read_text()) for file in files}
        return {**found.pop("figures", {}), **found}

    def resumed(self, stored: Mapping[str, Any]) -> Self:
        """Return this task with earlier figures as `known`, and empty the work directory."""
        known = {**stored, **self.left()}
        self.clear()
        return replace(self, known=known)

    def clear(self) -> None:
        """Empty the work directory."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)


def pass_on(data: bytes) -> None:
    """Copy a guest's output to this process's standard error as it comes."""
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()
