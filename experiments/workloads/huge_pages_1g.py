# SPDX-License-Identifier: MIT
"""A control: memory in huge pages, which has no PTE tables that a release could leave empty."""

from pathlib import Path

from cleanup.errors import CleanupError
from cleanup.proc import kilobytes
from experiments.phases import Parameters
from experiments.sparse import UNIT
from experiments.stage import Stage
from experiments.workload import Remains, Workload


class HugePages(Workload):
    """A release of less than 2 MiB splits a huge page: its other pages keep a table in use."""

    name = "huge-pages-1g"
    description = (
        "touch 1 GiB in huge pages, release a part of each or all: nothing is to be gained"
    )
    size_bytes = 1 << 30
    quick_bytes = 128 << 20
    rehearsal_bytes = 64 << 20
    control = True

    def run(self, stage: Stage, parameters: Parameters) -> Remains:
        """Touch one page of each unit, which maps a huge page; then release the block around it."""
        stage.measure("start")
        with self.mapping(parameters, huge=True) as mapping:
            seconds = mapping.touch(0, mapping.units)
            huge = kilobytes(Path("/proc/self/smaps_rollup"))["AnonHugePages"] // UNIT
            if huge < mapping.units // 2:
                raise CleanupError(
                    f"{mapping.units} units of 2 MiB have {huge} huge pages: set "
                    "/sys/kernel/mm/transparent_hugepage/enabled to madvise, and free memory"
                )
            stage.measure("touched", seconds)
            stage.clean(mapping.range, [], mapping.release(0, mapping.units))
            return Remains(
                mapping.released_reads_zero(mapping.around()), counts={"huge pages": huge}
            )


PART = HugePages()
