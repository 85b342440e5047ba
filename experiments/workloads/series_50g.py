# SPDX-License-Identifier: MIT
"""The workload of the kernel series "Free user PTE page table pages": 50 GiB, 2 MiB at a time."""

from collections.abc import Mapping
from typing import Any

from experiments.phases import Parameters
from experiments.sparse import GIB_UNITS
from experiments.stage import Stage
from experiments.workload import Remains, Workload


class Series(Workload):
    name = "series-50g"
    description = "touch and release 50 GiB, 2 MiB at a time: the kernel series' own workload"
    size_bytes = 50 << 30
    quick_bytes = 2 << 30
    touches = ("one", "all")
    repeats = 3
    rehearsal_bytes = 8 << 30

    def details_of(self, _parameters: Parameters) -> Mapping[str, Any]:
        """Return how many units are touched before they are released."""
        return {"stretch_units": 1}

    def run(self, stage: Stage, parameters: Parameters) -> Remains:
        """Touch a unit, release it, go on to the next; nothing is kept."""
        stage.measure("start")
        with self.mapping(parameters) as mapping:
            releasing = 0.0
            for first in range(0, mapping.units, GIB_UNITS):
                last = min(first + GIB_UNITS, mapping.units) - 1
                touched, released = mapping.touch_and_release(first, last)
                # VmPTE is read once a GiB at its peak: with one unit touched and not yet released.
                touched += mapping.touch(last, last + 1)
                stage.measure("touched", touched)
                releasing += released + mapping.release(last, last + 1)
            stage.clean(mapping.range, mapping.around(), releasing)
            return Remains(mapping.released_reads_zero(mapping.around()))


PART = Series()
