# SPDX-License-Identifier: MIT
"""Sparse files on a real filesystem: where they go, what is written to them, what is in memory."""

import os
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path

from experiments.sparse import PAGE, SparseMapping

# One touched page in that many holds data; the rest are holes of the file.
WRITTEN_ONE_IN = 512
_SAMPLE = 64
# In one unit of that many, all pages are looked at, and not the touched one alone.
_WHOLE_ONE_IN = 64


def scratch_directory() -> Path:
    """Return what PGTABLE_CLEANUP_SCRATCH names (a guest's disk), else the temporary directory."""
    return Path(os.environ.get("PGTABLE_CLEANUP_SCRATCH") or tempfile.gettempdir())


def contents(units: int, seed: int) -> dict[int, bytes]:
    """Return what the touched page of some units is to hold, by unit."""
    chooser = random.Random(seed)  # noqa: S311 -- to be the same at every run
    return {
        chooser.randrange(first, min(first + WRITTEN_ONE_IN, units)): chooser.randbytes(PAGE)
        for first in range(0, units, WRITTEN_ONE_IN)
    }


def write(mapping: SparseMapping, written: Mapping[int, bytes]) -> None:
    """Write `contents` and have them stored: dirty pages aren't paged out."""
    for unit, content in written.items():
        mapping.page(unit)[:] = content
    mapping.store()


def resident(mapping: SparseMapping) -> int:
    """Pages in memory: the touched one of every unit, and all of some units."""
    return mapping.resident(0, mapping.units, every_page=False) + sum(
        mapping.resident(unit, unit + 1, every_page=True)
        - mapping.resident(unit, unit + 1, every_page=False)
        for unit in range(0, mapping.units, _WHOLE_ONE_IN)
    )


def reads_as_written(mapping: SparseMapping, written: Mapping[int, bytes]) -> bool:
    """Tell whether the written pages hold what they should, and a sample of the rest is zero."""
    chooser = random.Random(mapping.seed)  # noqa: S311 -- a reproducible sample
    holes = set(chooser.choices(range(mapping.units), k=_SAMPLE)) - set(written)
    return all(mapping.page(unit) == content for unit, content in written.items()) and all(
        mapping.page(unit) == bytes(PAGE) for unit in holes
    )
