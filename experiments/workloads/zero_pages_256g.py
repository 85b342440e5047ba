# SPDX-License-Identifier: MIT
"""Memory that was only ever read: 256 GiB, 513 MiB of tables, and the zero page in each."""

from collections.abc import Mapping
from typing import Any

from experiments.phases import NO_RELEASE, Parameters
from experiments.sparse import sparse_mapping
from experiments.workload import Clean, Measure, Outcome, Workload

_SAMPLE = 64


class ZeroPages(Workload):
    name = "zero-pages-256g"
    description = "read one page per 2 MiB of 256 GiB, drop the zero pages that answered"
    size_bytes = 256 << 30
    quick_bytes = 4 << 30
    granularities = (NO_RELEASE,)
    rehearsal_bytes = 8 << 30
    zero_pages = True

    def details_of(self, parameters: Parameters) -> Mapping[str, Any]:
        """Return how many tables are made."""
        return {"units": parameters.size_bytes >> 21}

    def run(self, measure: Measure, clean: Clean, parameters: Parameters) -> Outcome:
        """Read each unit; there is nothing to release, as a zero page is no memory of its own."""
        measure("start")
        with sparse_mapping(parameters.size_bytes, seed=parameters.seed, write=False) as mapping:
            measure("touched", mapping.touch(0, mapping.units))
            measure("released", populated=[mapping.range])
            empty = [(0, mapping.units)]
            clean(mapping, empty)
            return Outcome(mapping.released_reads_zero(empty, _SAMPLE))


PART = ZeroPages()
