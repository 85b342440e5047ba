# SPDX-License-Identifier: MIT
"""Memory that several processes map, and one of them punches holes in: all have the tables."""

import hashlib
import random
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from experiments.phases import GRANULARITIES, Parameters
from experiments.sparse import PAGE, SparseMapping, between, sparse_mapping
from experiments.workers import Obey, workers
from experiments.workload import Clean, Measure, Outcome, Workload

_WORKERS = 4
# One touched page in that many holds data that stays.
_KEPT_ONE_IN = 1024
_SAMPLE = 64
_READ, _CHECK = b"r", b"c"


class SharedMemfd(Workload):
    name = "shared-memfd-32g"
    description = "five processes map a memfd of 32 GiB and read it here and there, one punches it"
    size_bytes = 32 << 30
    quick_bytes = 4 << 30
    rehearsal_bytes = 4 << 30

    def details_of(self, parameters: Parameters) -> Mapping[str, Any]:
        """Return how many tables each process gets, and how many pages are kept."""
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
            obey = _obeying(mapping, checksums)
            others = stack.enter_context(workers(_WORKERS, obey))
            pids = others.pids
            measure("start", pids=pids)
            seconds = mapping.touch(0, mapping.units)
            for unit, content in contents.items():
                mapping.page(unit)[:] = content
            others.tell(_READ)
            measure("touched", seconds, pids=pids)
            releasing = 0.0
            empty = list(between(kept, mapping.units))
            for first, last in empty:
                releasing += mapping.release(first, last)
            measure("released", releasing, [mapping.range], pids)
            clean(mapping, empty, pids)
            intact = [obey(_CHECK), others.tell(_CHECK)]
            return Outcome(
                all(intact) and mapping.released_reads_zero(empty, _SAMPLE), survivors=len(kept)
            )


def _obeying(mapping: SparseMapping, checksums: Mapping[int, bytes]) -> Obey:
    def obey(order: bytes) -> bool:
        if order == _READ:
            sum(mapping.page(unit)[0] for unit in range(mapping.units))
            return True
        return all(
            hashlib.sha256(mapping.page(unit)).digest() == checksum
            for unit, checksum in checksums.items()
        )

    return obey


PART = SharedMemfd()
