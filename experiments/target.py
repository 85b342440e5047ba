# SPDX-License-Identifier: MIT
"""The process under measurement: runs one workload once, under orders from its standard input.

It halts at every phase until `measure`, which started it, has read its figures.  It
imports little, being started anew for each run in guests where imports are slow.
"""

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any

import cleanup
from cleanup.errors import CleanupError
from cleanup.experiments import _memory
from cleanup.experiments.proc import tlb_shootdowns
from cleanup.experiments.sparse import SparseMapping
from cleanup.experiments.workload import Measure, Parameters
from cleanup.experiments.workloads import registry


class _Pipe:
    """The other side of `measure`: one JSON document a line, each way."""

    def __init__(self, source: IO[str], sink: IO[str]) -> None:
        self._source, self._sink = source, sink

    def receive(self) -> Any:  # noqa: ANN401 -- what JSON holds
        line = self._source.readline()
        if not line:  # it is gone
            raise SystemExit(1)
        return json.loads(line)

    def send(self, **message: object) -> None:
        self._sink.write(json.dumps(message) + "\n")
        self._sink.flush()

    def measure(
        self, phase: str, seconds: float = 0.0, populated: Sequence[tuple[int, int]] = ()
    ) -> None:
        self.send(phase=phase, seconds=seconds, populated=populated)
        self.receive()


class _SecondThread:
    """A thread on another CPU, so that flushing this address space takes an interrupt.

    It sleeps except while `busy`: it would slow the rest.
    """

    def __init__(self) -> None:
        self._stop = bytearray(1)
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            _memory.spin(self._stop)
            self._done.release()

    @contextmanager
    def busy(self) -> Iterator[None]:
        self._stop[0] = 0
        self._go.release()
        try:
            yield
        finally:
            self._stop[0] = 1
            self._done.acquire()


class _Cleaner:
    """Cleans by one backend, and keeps what it says of it."""

    def __init__(self, backend: str, measure: Measure, second_thread: _SecondThread) -> None:
        self._backend, self._measure, self._second = backend, measure, second_thread
        self.report: dict[str, Any] = {}

    def __call__(self, mapping: SparseMapping, empty: Sequence[tuple[int, int]]) -> None:
        with self._second.busy():
            shootdowns = tlb_shootdowns()
            begin = time.monotonic()
            result = self._clean(mapping, empty)
            seconds = time.monotonic() - begin
            shootdowns = tlb_shootdowns() - shootdowns
        self.report = {"result": result, "tlb_shootdowns": shootdowns}
        self._measure("cleaned", seconds, [mapping.range])

    def _clean(
        self, mapping: SparseMapping, empty: Sequence[tuple[int, int]]
    ) -> dict[str, Any] | None:
        if self._backend == "module":
            return cleanup.reclaim(mapping.view).to_json()
        if self._backend == "zap":
            for first, last in empty:
                mapping.zap(first, last)
        return None


def _unmeasured(
    phase: str, seconds: float = 0.0, populated: Sequence[tuple[int, int]] = ()
) -> None:
    """For the rehearsal."""


def main() -> int:
    """Obey one order, and report."""
    pipe = _Pipe(sys.stdin, sys.stdout)
    order = pipe.receive()
    try:
        workload = registry()[order["workload"]]
        parameters = Parameters(**order["parameters"])
        second_thread = _SecondThread()
        # What a first run alone does, such as growing the heap, would show in VmPTE.
        workload.run(
            _unmeasured,
            _Cleaner(order["backend"], _unmeasured, second_thread),
            replace(parameters, size_bytes=workload.rehearsal_bytes),
        )
        cleaner = _Cleaner(order["backend"], pipe.measure, second_thread)
        outcome = workload.run(pipe.measure, cleaner, parameters)
    except (CleanupError, OSError) as error:
        pipe.send(error=str(error))
        return 1
    pipe.send(
        contents_intact=outcome.contents_intact, survivors=outcome.survivors, **cleaner.report
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
