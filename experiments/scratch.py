# SPDX-License-Identifier: MIT
"""Sparse files on a real filesystem: their directory, their contents, their pages in memory."""

import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from experiments.sparse import PAGE, SparseMapping

# Of this many touched pages one holds data; the rest are holes in the file.
DATA_ONE_IN = 512
_SAMPLE = 64
# In one unit of this many, `resident` looks at all pages; in the others, at the touched one.
_WHOLE_ONE_IN = 64


def scratch_directory() -> Path:
    """Return PGTABLE_CLEANUP_SCRATCH, which names a guest's disk, or the temporary directory."""
    return Path(os.environ.get("PGTABLE_CLEANUP_SCRATCH") or tempfile.gettempdir())


def units_with_data(mapping: SparseMapping) -> list[int]:
    """Return the units whose touched page is to hold data, chosen by the seed."""
    chooser = random.Random(mapping.seed)  # noqa: S311 -- to be the same at every run
    firsts = range(0, mapping.units, DATA_ONE_IN)
    return [chooser.randrange(first, min(first + DATA_ONE_IN, mapping.units)) for first in firsts]


def write(mapping: SparseMapping, units: Sequence[int]) -> None:
    """Write to the touched pages of `units` and flush the file: dirty pages aren't paged out."""
    mapping.fill(units)
    mapping.store()


def resident(mapping: SparseMapping) -> int:
    """Count the pages in memory: the touched one of every unit, and all of some units."""
    return mapping.resident(0, mapping.units, every_page=False) + sum(
        mapping.resident(unit, unit + 1, every_page=True)
        - mapping.resident(unit, unit + 1, every_page=False)
        for unit in range(0, mapping.units, _WHOLE_ONE_IN)
    )


def reads_as_written(mapping: SparseMapping, units: Sequence[int]) -> bool:
    """Tell whether the written pages hold what they should, and a sample of the rest is zero."""
    chooser = random.Random(mapping.seed)  # noqa: S311 -- a reproducible sample
    holes = set(chooser.choices(range(mapping.units), k=_SAMPLE)) - set(units)
    return mapping.is_filled(units) and all(mapping.page(unit) == bytes(PAGE) for unit in holes)
