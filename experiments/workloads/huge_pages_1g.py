# SPDX-License-Identifier: MIT
"""Memory in huge pages, released: a control, for such memory has no tables to be left empty."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cleanup.errors import CleanupError
from cleanup.proc import kilobytes
from experiments.phases import GRANULARITIES, Parameters
from experiments.sparse import UNIT, sparse_mapping
from experiments.workload import Clean, Measure, Outcome, Workload

_SAMPLE = 64


class HugePages(Workload):
    """Released by less than 2 MiB a huge page is split, and what is left of it keeps its table."""

    name = "huge-pages-1g"
    description = (
        "touch 1 GiB in huge pages, release a part of each or all: nothing is to be gained"
    )
    size_bytes = 1 << 30
    quick_bytes = 128 << 20
    granularities = ("4k", "64k", "2m")
    rehearsal_bytes = 64 << 20
    control = True

    def details_of(self, parameters: Parameters) -> Mapping[str, Any]:
        """Return how many huge pages are made."""
        return {"units": parameters.size_bytes >> 21}

    def run(self, measure: Measure, clean: Clean, parameters: Parameters) -> Outcome:
        """Touch each unit by one page, which brings a huge page; then release that page."""
        measure("start")
        with sparse_mapping(
            parameters.size_bytes,
            seed=parameters.seed,
            block=GRANULARITIES[parameters.granularity],
            huge=True,
        ) as mapping:
            seconds = mapping.touch(0, mapping.units)
            huge = kilobytes(Path("/proc/self/smaps_rollup"))["AnonHugePages"] // UNIT
            if huge < mapping.units // 2:
                raise CleanupError(
                    f"{mapping.units} units of 2 MiB have {huge} huge pages: set "
                    "/sys/kernel/mm/transparent_hugepage/enabled to madvise, and free memory"
                )
            measure("touched", seconds)
            measure("released", mapping.release(0, mapping.units), [mapping.range])
            clean(mapping, [])
            return Outcome(
                mapping.released_reads_zero([(0, mapping.units)], _SAMPLE),
                counts={"huge pages": huge},
            )


PART = HugePages()
