# SPDX-License-Identifier: MIT
"""Control of a process that runs `program`: its start, its orders, and counts of its tables."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from experiments import oracle
from experiments.allocators.methods import ProgramMethod
from experiments.part import ExperimentError


class Process:
    """A running program; `started` starts one."""

    def __init__(self, process: "subprocess.Popen[str]", method: ProgramMethod) -> None:
        self._process = process
        self._method = method
        self.pid = process.pid

    def tell(self, order: str, *arguments: float | Sequence[float]) -> Any:  # noqa: ANN401 -- each order's own
        """Have an order carried out, and return its answer.  Raises ExperimentError."""
        return self._answer(order, arguments)["answer"]

    def cpu_ns(self, order: str, *arguments: float | Sequence[float]) -> float:
        """Have an order carried out, and return the nanoseconds of CPU time that it took."""
        return float(self._answer(order, arguments)["cpu_ns"])

    def _answer(self, order: str, arguments: Sequence[object]) -> Any:  # noqa: ANN401 -- JSON
        assert self._process.stdin is not None  # noqa: S101 -- it is a pipe: for mypy
        assert self._process.stdout is not None  # noqa: S101
        try:
            # No buffer: with bytes for a dead process in it, closing it would fail again.
            os.write(self._process.stdin.fileno(), json.dumps([order, *arguments]).encode() + b"\n")
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ExperimentError(
                f"{self._method.name}: the program ended with status {self._process.wait()} at "
                f"{order!r}: see its messages above"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise ExperimentError(f"{self._method.name}: {answer['error']}")
        return answer

    def tables(self) -> oracle.Census:
        """Return the oracle's census; it halts the process, whose library thread may be busy."""
        return oracle.observe_halted(self.pid)


@contextmanager
def started(method: ProgramMethod, libraries: Sequence[str]) -> Iterator[Process]:
    """Run the program with a method, and yield it once it waits for orders; kill it at the end."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "experiments.allocators.program"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=method.environment(libraries),
        start_new_session=True,
    ) as process:
        try:
            found = Process(process, method)
            # A census before this answer would count tables in the middle of the start.
            found.tell("started")
            yield found
        finally:
            process.kill()
