# SPDX-License-Identifier: MIT
"""The workload of the kernel series "Free user PTE page table pages": 50 GiB, 2 MiB at a time."""

from collections.abc import Mapping
from typing import Any

from experiments.phases import GRANULARITIES, Parameters
from experiments.sparse import GIB_UNITS, sparse_mapping
from experiments.workload import Clean, Measure, Outcome, Workload

_SAMPLE = 64


class Series(Workload):
    name = "series-50g"
    description = "touch and release 50 GiB, 2 MiB at a time: the kernel series' own workload"
    size_bytes = 50 << 30
    quick_bytes = 2 << 30
    touches = ("one", "all")
    repeats = 3
    rehearsal_bytes = 8 << 30

    def details_of(self, parameters: Parameters) -> Mapping[str, Any]:
        """The units that are touched before they are released."""
        return {"units": parameters.size_bytes >> 21, "stretch_units": 1}

    def run(self, measure: Measure, clean: Clean, parameters: Parameters) -> Outcome:
        """Touch a unit, release it, go on to the next; nothing is kept."""
        measure("start")
        with sparse_mapping(
            parameters.size_bytes,
            seed=parameters.seed,
            every_page=parameters.touch == "all",
            block=GRANULARITIES[parameters.granularity],
        ) as mapping:
            releasing = 0.0
            for first in range(0, mapping.units, GIB_UNITS):
                last = min(first + GIB_UNITS, mapping.units) - 1
                touched, released = mapping.touch_and_release(first, last)
                # The peak is looked for once a GiB, with a unit touched and not yet released.
                touched += mapping.touch(last, last + 1)
                measure("touched", touched)
                releasing += released + mapping.release(last, last + 1)
            measure("released", releasing, [mapping.range])
            empty = [(0, mapping.units)]
            clean(mapping, empty)
            return Outcome(mapping.released_reads_zero(empty, _SAMPLE))


PART = Series()
