# SPDX-License-Identifier: MIT
"""Memory that was only ever read: 256 GiB with 513 MiB of tables, which map just the zero page."""

from experiments.phases import NO_RELEASE, Parameters
from experiments.stage import Stage
from experiments.workload import Remains, Workload


class ZeroPages(Workload):
    name = "zero-pages-256g"
    description = "read one page per 2 MiB of 256 GiB, drop the zero pages that answered"
    size_bytes = 256 << 30
    quick_bytes = 4 << 30
    granularities = (NO_RELEASE,)
    rehearsal_bytes = 8 << 30
    zero_pages = True

    def run(self, stage: Stage, parameters: Parameters) -> Remains:
        """Read each unit. There is nothing to release: all units map one shared zero page."""
        stage.measure("start")
        with self.mapping(parameters, write=False) as mapping:
            stage.measure("touched", mapping.touch(0, mapping.units))
            stage.clean(mapping.range, mapping.around())
            return Remains(mapping.released_reads_zero(mapping.around()))


PART = ZeroPages()
