# SPDX-License-Identifier: MIT
"""Many processes, each with empty page tables of its own: the case for `reclaim --all`."""

from collections.abc import Mapping
from typing import Any

from experiments.phases import Parameters
from experiments.stage import Stage
from experiments.workers import Orders, workers
from experiments.workload import Remains, Workload

_SAMPLE = 4


class HundredProcesses(Workload):
    """A hundred processes, or eight in a quick run, each of which maps `size_bytes`."""

    name = "hundred-processes"
    description = "a hundred processes touch one page per 2 MiB of 512 MiB each, and release it"
    size_bytes = 512 << 20
    quick_bytes = 32 << 20
    rehearsal_bytes = 64 << 20

    def details_of(self, parameters: Parameters) -> Mapping[str, Any]:
        """Return how many processes there are; all get the same number of tables."""
        return {"processes": _processes(parameters)}

    def run(self, stage: Stage, parameters: Parameters) -> Remains:
        """Touch and release in each process; the memory is private, so each has its own tables."""
        with self.mapping(parameters) as mapping:
            orders: Orders = {
                "touch": lambda: mapping.touch(0, mapping.units),
                "release": lambda: mapping.release(0, mapping.units),
                "check": lambda: mapping.released_reads_zero(mapping.around(), _SAMPLE),
            }
            # This process is one of those measured, so it needs one worker fewer.
            with workers(_processes(parameters) - 1, orders) as others:
                stage.pids = others.pids
                stage.measure("start")
                seconds = mapping.touch(0, mapping.units)
                others.tell("touch")
                stage.measure("touched", seconds)
                releasing = mapping.release(0, mapping.units)
                others.tell("release")
                stage.clean(mapping.range, mapping.around(), releasing)
                intact = [others.tell("check"), orders["check"]()]
                return Remains(all(intact))


def _processes(parameters: Parameters) -> int:
    # The figures of each process are read in every phase, which is slow under emulation.
    return 8 if parameters.quick else 100


PART = HundredProcesses()
