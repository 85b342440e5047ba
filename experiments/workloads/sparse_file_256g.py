# SPDX-License-Identifier: MIT
"""Tables that page reclaim empties: 256 GiB of a sparse file, read here and there, paged out."""

import hashlib
import os
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cleanup.errors import CleanupError
from cleanup.experiments.sparse import PAGE, SparseMapping, sparse_mapping
from cleanup.experiments.workload import (
    GRANULARITIES,
    Clean,
    Measure,
    Outcome,
    Parameters,
    Workload,
)

# One touched page in so many holds data, the rest are holes of the file.
_WRITTEN_ONE_IN = 512
_SAMPLE = 64
# Of each so many units, all pages are looked at, not the touched one alone.
_WHOLE_ONE_IN = 64
# A page that another CPU has yet to put on its LRU list is passed over.
_ROUNDS = 5


class SparseFile(Workload):
    """See `Workload`.

    The file is made where PGTABLE_CLEANUP_SCRATCH says (a lab guest's disk), else where
    temporary files are.
    """

    name = "sparse-file-256g"
    description = "read one page per 2 MiB of a sparse file of 256 GiB, page them out"
    size_bytes = 256 << 30
    granularities = ("2m", "64k", "4k")
    rehearsal_bytes = 8 << 30
    guest_disk = "1G"

    def details(self, parameters: Parameters) -> Mapping[str, Any]:
        """How many tables are made, and how much of the file holds data."""
        return {"units": parameters.size_bytes >> 21, "written_one_in": _WRITTEN_ONE_IN}

    def run(self, measure: Measure, clean: Clean, parameters: Parameters) -> Outcome:
        """Write some pages, read all, page all out; the file keeps what it holds."""
        directory = Path(os.environ.get("PGTABLE_CLEANUP_SCRATCH") or tempfile.gettempdir())
        measure("start")
        with sparse_mapping(
            parameters.size_bytes,
            seed=parameters.seed,
            block=GRANULARITIES[parameters.granularity],
            write=False,
            directory=directory,
        ) as mapping:
            checksums = _write(mapping)
            measure("touched", mapping.touch(0, mapping.units))
            before = _resident(mapping)
            releasing = 0.0
            rounds, after = 0, before
            while after and rounds < _ROUNDS:
                releasing += mapping.release(0, mapping.units)
                after = _resident(mapping)
                rounds += 1
            if all(mapping.resident(unit, unit + 1, every_page=False) for unit in checksums):
                raise CleanupError(
                    f"MADV_PAGEOUT left what was written to a file in {directory} in memory: "
                    "let TMPDIR name a directory on ext4 or xfs, not on a tmpfs"
                )
            measure("released", releasing, [mapping.range])
            empty = [(0, mapping.units)]
            clean(mapping, empty)
            return Outcome(
                _reads_as_written(mapping, checksums),
                counts={
                    "resident pages before": before,
                    "resident pages after": after,
                    "rounds of MADV_PAGEOUT": rounds,
                },
            )


def _write(mapping: SparseMapping) -> dict[int, bytes]:
    """Fill the touched page of some units and have it stored; the checksum of each."""
    chooser = random.Random(mapping.seed)  # noqa: S311 -- to be the same at every run
    checksums = {}
    for first in range(0, mapping.units, _WRITTEN_ONE_IN):
        unit = chooser.randrange(first, min(first + _WRITTEN_ONE_IN, mapping.units))
        content = chooser.randbytes(PAGE)
        mapping.page(unit)[:] = content
        checksums[unit] = hashlib.sha256(content).digest()
    # Dirty pages aren't paged out.
    mapping.store()
    return checksums


def _resident(mapping: SparseMapping) -> int:
    """Pages in memory: the touched one of every unit, and all of some units."""
    return mapping.resident(0, mapping.units, every_page=False) + sum(
        mapping.resident(unit, unit + 1, every_page=True)
        - mapping.resident(unit, unit + 1, every_page=False)
        for unit in range(0, mapping.units, _WHOLE_ONE_IN)
    )


def _reads_as_written(mapping: SparseMapping, checksums: Mapping[int, bytes]) -> bool:
    """Whether the written pages hold what they should, and a sample of the rest is zero."""
    chooser = random.Random(mapping.seed)  # noqa: S311 -- a reproducible sample
    holes = set(chooser.choices(range(mapping.units), k=_SAMPLE)) - set(checksums)
    return all(
        hashlib.sha256(mapping.page(unit)).digest() == checksum
        for unit, checksum in checksums.items()
    ) and all(mapping.page(unit) == bytes(PAGE) for unit in holes)


WORKLOAD: Workload = SparseFile()
