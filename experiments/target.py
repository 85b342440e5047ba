# SPDX-License-Identifier: MIT
"""The process under measurement: runs one workload once, under orders from its standard input.

It halts at every phase until `measure`, which started it, has read its figures.  It
imports little, being started anew for each run in guests where imports are slow.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, Any

import cleanup
from cleanup.errors import CleanupError
from cleanup.proc import tlb_shootdowns
from experiments import _memory, registry
from experiments.phases import Parameters
from experiments.workload import Mapped, Measure, Workload


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
        self,
        phase: str,
        seconds: float = 0.0,
        populated: Sequence[tuple[int, int]] = (),
        pids: Sequence[int] = (),
    ) -> None:
        self.send(phase=phase, seconds=seconds, populated=populated, pids=pids)
        self.receive()


@dataclass(frozen=True, slots=True)
class _Method:
    name: str
    zero_pages: bool

    def clean(
        self, mapping: Mapped, empty: Sequence[tuple[int, int]], pids: Sequence[int]
    ) -> dict[str, Any] | None:
        """Clean, and return what the method says of it; OSError.

        A zap reaches this process alone.
        """
        if self.name == "module":
            first, end = mapping.range
            ranges = [(first, end - first)]
            done = cleanup.reclaim(os.getpid(), ranges=ranges, zero_pages=self.zero_pages)
            for pid in pids:
                done += cleanup.reclaim(pid, ranges=ranges, zero_pages=self.zero_pages)
            return done.to_json()
        if self.name == "zap":
            for first, last in empty:
                mapping.zap(first, last)
        return None


class _Timed:
    """Cleans in the run proper."""

    def __init__(self, method: _Method, measure: Measure) -> None:
        self._method, self._measure = method, measure
        self.result: dict[str, Any] | None = None

    def __call__(
        self, mapping: Mapped, empty: Sequence[tuple[int, int]], pids: Sequence[int] = ()
    ) -> None:
        begin = time.monotonic()
        self.result = self._method.clean(mapping, empty, pids)
        # The module frees upper tables too: what is left of them is for the oracle to find.
        populated = [] if self._method.name == "module" else [mapping.range]
        self._measure("cleaned", time.monotonic() - begin, populated, pids)


class _Counted:
    """Cleans in the rehearsal, and counts the TLB shootdowns.

    A second thread keeps another CPU busy meanwhile, or flushing would take no
    interrupt.  The run proper is timed without it: where the CPUs are an emulator's on
    a busy host, each interrupt waits for its CPU's turn there.
    """

    def __init__(self, method: _Method) -> None:
        self._method = method
        self.shootdowns = self.tables = 0

    def __call__(
        self, mapping: Mapped, empty: Sequence[tuple[int, int]], pids: Sequence[int] = ()
    ) -> None:
        with second_thread():
            before = tlb_shootdowns()
            self._method.clean(mapping, empty, pids)
            self.shootdowns = tlb_shootdowns() - before
        self.tables = sum(last - first for first, last in empty)


@contextmanager
def second_thread() -> Iterator[None]:
    """A thread of this process keeps a CPU busy meanwhile."""
    stop = bytearray(1)
    thread = threading.Thread(target=_memory.spin, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop[0] = 1
        thread.join()


def _unmeasured(
    phase: str,
    seconds: float = 0.0,
    populated: Sequence[tuple[int, int]] = (),
    pids: Sequence[int] = (),
) -> None:
    """For the rehearsal."""


def main() -> int:
    """Obey one order, and report."""
    pipe = _Pipe(sys.stdin, sys.stdout)
    order = pipe.receive()
    try:
        workload = registry.find(order["workload"])
        assert isinstance(workload, Workload)  # noqa: S101 -- `measure` asks for no other
        parameters = Parameters(**order["parameters"])
        method = _Method(order["method"], workload.zero_pages)
        # What a first run alone does, such as growing the heap, would show in VmPTE.
        counted = _Counted(method)
        rehearsal = replace(
            parameters, size_bytes=min(workload.rehearsal_bytes, parameters.size_bytes)
        )
        workload.run(_unmeasured, counted, rehearsal)
        timed = _Timed(method, pipe.measure)
        outcome = workload.run(pipe.measure, timed, parameters)
    except (CleanupError, OSError) as error:
        pipe.send(error=str(error))
        return 1
    pipe.send(
        contents_intact=outcome.contents_intact,
        survivors=outcome.survivors,
        counts=outcome.counts,
        result=timed.result,
        tlb_shootdowns=counted.shootdowns,
        tlb_tables=counted.tables,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
