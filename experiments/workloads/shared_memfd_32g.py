# SPDX-License-Identifier: MIT
"""Memory that several processes map, and one of them punches holes in: all have the tables."""

import hashlib
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from cleanup.errors import CleanupError
from cleanup.experiments.sparse import PAGE, SparseMapping, between, sparse_mapping
from cleanup.experiments.workload import (
    GRANULARITIES,
    Clean,
    Measure,
    Outcome,
    Parameters,
    Workload,
)

_WORKERS = 4
# Of the touched pages, so many hold data that stays.
_KEPT_ONE_IN = 1024
_SAMPLE = 64
_READ, _CHECK = b"r", b"c"
_DONE, _FAILED = b"d", b"f"


class SharedMemfd(Workload):
    """See `Workload`."""

    name = "shared-memfd-32g"
    description = "five processes map a memfd of 32 GiB and read it here and there, one punches it"
    size_bytes = 32 << 30
    rehearsal_bytes = 4 << 30
    guest_memory = "3G"

    def details(self, parameters: Parameters) -> Mapping[str, Any]:
        """How many tables each process gets, and how many pages are kept."""
        return {
            "units": parameters.size_bytes >> 21,
            "processes": 1 + _WORKERS,
            "kept_one_in": _KEPT_ONE_IN,
        }

    def run(self, measure: Measure, clean: Clean, parameters: Parameters) -> Outcome:
        """Write here, have the workers read, punch out all but a few pages here."""
        chooser = random.Random(parameters.seed)  # noqa: S311 -- to be the same at every run
        with ExitStack() as stack:
            mapping = stack.enter_context(
                sparse_mapping(
                    parameters.size_bytes,
                    seed=parameters.seed,
                    block=GRANULARITIES[parameters.granularity],
                    memfd=True,
                )
            )
            kept = sorted(chooser.sample(range(mapping.units), mapping.units // _KEPT_ONE_IN))
            contents = {unit: chooser.randbytes(PAGE) for unit in kept}
            checksums = {unit: hashlib.sha256(one).digest() for unit, one in contents.items()}
            # Before any table is made, so that each makes its own.
            workers = [stack.enter_context(_worker(mapping, checksums)) for _ in range(_WORKERS)]
            pids = [worker.pid for worker in workers]
            measure("start", pids=pids)
            seconds = mapping.touch(0, mapping.units)
            for unit, content in contents.items():
                mapping.page(unit)[:] = content
            for worker in workers:
                worker.tell(_READ)
            measure("touched", seconds, pids=pids)
            releasing = 0.0
            empty = list(between(kept, mapping.units))
            for first, last in empty:
                releasing += mapping.release(first, last)
            measure("released", releasing, [mapping.range], pids)
            clean(mapping, empty, pids)
            intact = all(
                hashlib.sha256(mapping.page(unit)).digest() == checksum
                for unit, checksum in checksums.items()
            )
            for worker in workers:
                intact = worker.tell(_CHECK) and intact
            return Outcome(
                intact and mapping.released_reads_zero(empty, _SAMPLE), survivors=len(kept)
            )


class _Worker:
    """A process that has the mapping, too."""

    def __init__(self, pid: int, orders: int, answers: int) -> None:
        self.pid = pid
        self._orders, self._answers = orders, answers

    def tell(self, order: bytes) -> bool:
        """Have it done: whether all was as it should be."""
        os.write(self._orders, order)
        answer = os.read(self._answers, 1)
        if not answer:
            raise CleanupError(f"process {self.pid} of the workload has ended")
        return answer == _DONE


@contextmanager
def _worker(mapping: SparseMapping, checksums: Mapping[int, bytes]) -> Iterator[_Worker]:
    """One that ends with the block, or with this process."""
    orders, order_to = os.pipe()
    answers, answer_to = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(order_to)
        try:
            _obey(mapping, checksums, orders, answer_to)
        finally:
            os._exit(0)
    os.close(orders)
    os.close(answer_to)
    try:
        yield _Worker(pid, order_to, answers)
    finally:
        os.close(order_to)
        os.close(answers)
        os.waitpid(pid, 0)


def _obey(
    mapping: SparseMapping, checksums: Mapping[int, bytes], orders: int, answers: int
) -> None:
    while order := os.read(orders, 1):
        done = True
        if order == _READ:
            sum(mapping.page(unit)[0] for unit in range(mapping.units))
        else:
            done = all(
                hashlib.sha256(mapping.page(unit)).digest() == checksum
                for unit, checksum in checksums.items()
            )
        os.write(answers, _DONE if done else _FAILED)


WORKLOAD: Workload = SharedMemfd()
