# SPDX-License-Identifier: MIT
"""A host of many processes, each with empty tables of its own: what `reclaim --all` is for."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from experiments.phases import GRANULARITIES, Parameters
from experiments.sparse import SparseMapping, sparse_mapping
from experiments.workers import Obey, workers
from experiments.workload import Clean, Measure, Outcome, Workload

_PROCESSES = 100
_SAMPLE = 4
_TOUCH, _RELEASE, _CHECK = b"t", b"r", b"c"


class HundredProcesses(Workload):
    """Each process maps `size_bytes`."""

    name = "hundred-processes"
    description = "a hundred processes touch one page per 2 MiB of 512 MiB each, and release it"
    size_bytes = 512 << 20
    quick_bytes = 64 << 20
    rehearsal_bytes = 64 << 20

    def details_of(self, parameters: Parameters) -> Mapping[str, Any]:
        """Return how many tables each process gets."""
        return {"units": parameters.size_bytes >> 21, "processes": _PROCESSES}

    def run(self, measure: Measure, clean: Clean, parameters: Parameters) -> Outcome:
        """The memory is private: what one touches is nobody else's."""
        with ExitStack() as stack:
            mapping = stack.enter_context(
                sparse_mapping(
                    parameters.size_bytes,
                    seed=parameters.seed,
                    block=GRANULARITIES[parameters.granularity],
                )
            )
            # This process is one of them.
            others = stack.enter_context(workers(_PROCESSES - 1, _obeying(mapping)))
            pids = others.pids
            measure("start", pids=pids)
            seconds = mapping.touch(0, mapping.units)
            others.tell(_TOUCH)
            measure("touched", seconds, pids=pids)
            releasing = mapping.release(0, mapping.units)
            others.tell(_RELEASE)
            measure("released", releasing, [mapping.range], pids)
            empty = [(0, mapping.units)]
            clean(mapping, empty, pids)
            intact = others.tell(_CHECK)
            return Outcome(intact and mapping.released_reads_zero(empty, _SAMPLE))


def _obeying(mapping: SparseMapping) -> Obey:
    def obey(order: bytes) -> bool:
        if order == _TOUCH:
            mapping.touch(0, mapping.units)
        elif order == _RELEASE:
            mapping.release(0, mapping.units)
        else:
            return mapping.released_reads_zero([(0, mapping.units)], _SAMPLE)
        return True

    return obey


PART = HundredProcesses()
