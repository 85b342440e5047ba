# SPDX-License-Identifier: MIT
"""Tables that page reclaim empties: a sparse file of 256 GiB, read here and there, paged out."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cleanup.errors import CleanupError
from experiments.phases import Parameters
from experiments.scratch import (
    DATA_ONE_IN,
    reads_as_written,
    resident,
    scratch_directory,
    units_with_data,
    write,
)
from experiments.stage import Stage
from experiments.workload import Remains, Workload

# Paging out is repeated on every CPU: it passes over pages that are being written back.
_ROUNDS = 5


class SparseFile(Workload):
    """A sparse file in the `scratch_directory`, mapped and read."""

    name = "sparse-file-256g"
    description = "read one page per 2 MiB of a sparse file of 256 GiB, page them out"
    size_bytes = 256 << 30
    quick_bytes = 4 << 30
    granularities = ("2m", "64k", "4k")
    rehearsal_bytes = 8 << 30

    def details_of(self, _parameters: Parameters) -> Mapping[str, Any]:
        """Return the number of touched pages of which one holds data."""
        return {"written_one_in": DATA_ONE_IN}

    def run(self, stage: Stage, parameters: Parameters) -> Remains:
        """Write some pages, read one page of each unit, page all out; the file keeps its data."""
        directory = scratch_directory()
        stage.measure("start")
        with self.mapping(parameters, write=False, directory=directory) as mapping:
            units = units_with_data(mapping)
            write(mapping, units)
            stage.measure("touched", mapping.touch(0, mapping.units))
            before = resident(mapping)
            releasing = 0.0
            rounds, after = 0, before
            for cpu in _ROUNDS * sorted(os.sched_getaffinity(0)):
                with _running_on(cpu):
                    releasing += mapping.release(0, mapping.units)
                after = resident(mapping)
                rounds += 1
                if not after:
                    break
            if all(mapping.resident(unit, unit + 1, every_page=False) for unit in units):
                raise CleanupError(
                    f"MADV_PAGEOUT left what was written to a file in {directory} in memory: "
                    "let TMPDIR name a directory on ext4 or xfs, not on a tmpfs"
                )
            stage.clean(mapping.range, mapping.around(), releasing)
            return Remains(
                reads_as_written(mapping, units),
                counts={
                    "resident pages before": before,
                    "resident pages after": after,
                    "rounds of MADV_PAGEOUT": rounds,
                },
            )


@contextmanager
def _running_on(cpu: int) -> Iterator[None]:
    """Run on one CPU.

    MADV_PAGEOUT passes over the pages that a CPU has yet to put on an LRU list, but for those of
    the CPU that it runs on.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


PART = SparseFile()
