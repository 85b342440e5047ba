# SPDX-License-Identifier: MIT
"""Tables that page reclaim empties: 256 GiB of a sparse file, read here and there, paged out."""

from collections.abc import Mapping
from typing import Any

from cleanup.errors import CleanupError
from experiments.phases import GRANULARITIES, Parameters
from experiments.scratch import (
    WRITTEN_ONE_IN,
    contents,
    reads_as_written,
    resident,
    scratch_directory,
    write,
)
from experiments.sparse import sparse_mapping
from experiments.workload import Clean, Measure, Outcome, Workload

# A page that another CPU has yet to put on its LRU list is passed over.
_ROUNDS = 5


class SparseFile(Workload):
    """The file is in the `scratch_directory`."""

    name = "sparse-file-256g"
    description = "read one page per 2 MiB of a sparse file of 256 GiB, page them out"
    size_bytes = 256 << 30
    quick_bytes = 4 << 30
    granularities = ("2m", "64k", "4k")
    rehearsal_bytes = 8 << 30

    def details_of(self, parameters: Parameters) -> Mapping[str, Any]:
        """Return how many tables are made, and how much of the file holds data."""
        return {"units": parameters.size_bytes >> 21, "written_one_in": WRITTEN_ONE_IN}

    def run(self, measure: Measure, clean: Clean, parameters: Parameters) -> Outcome:
        """Write some pages, read all, page all out; the file keeps what it holds."""
        directory = scratch_directory()
        measure("start")
        with sparse_mapping(
            parameters.size_bytes,
            seed=parameters.seed,
            block=GRANULARITIES[parameters.granularity],
            write=False,
            directory=directory,
        ) as mapping:
            written = contents(mapping.units, parameters.seed)
            write(mapping, written)
            measure("touched", mapping.touch(0, mapping.units))
            before = resident(mapping)
            releasing = 0.0
            rounds, after = 0, before
            while after and rounds < _ROUNDS:
                releasing += mapping.release(0, mapping.units)
                after = resident(mapping)
                rounds += 1
            if all(mapping.resident(unit, unit + 1, every_page=False) for unit in written):
                raise CleanupError(
                    f"MADV_PAGEOUT left what was written to a file in {directory} in memory: "
                    "let TMPDIR name a directory on ext4 or xfs, not on a tmpfs"
                )
            measure("released", releasing, [mapping.range])
            empty = [(0, mapping.units)]
            clean(mapping, empty)
            return Outcome(
                reads_as_written(mapping, written),
                counts={
                    "resident pages before": before,
                    "resident pages after": after,
                    "rounds of MADV_PAGEOUT": rounds,
                },
            )


PART = SparseFile()
