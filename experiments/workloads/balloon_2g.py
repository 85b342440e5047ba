# SPDX-License-Identifier: MIT
"""A virtual machine's memory under a balloon: a memfd, pages punched out of it but for a few."""

import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cleanup import _uapi
from cleanup.experiments.sparse import PAGE, UNIT, SparseMapping, between, sparse_mapping
from cleanup.experiments.workload import (
    GRANULARITIES,
    Clean,
    Measure,
    Outcome,
    Parameters,
    Workload,
)

# What the guest of the balloon keeps: of its pages, chosen by the seed.
_KEPT_ONE_IN = 1000
_SAMPLE = 64


class Balloon(Workload):
    """See `Workload`."""

    name = "balloon-2g"
    description = "touch all of a memfd of 2 GiB, punch holes in it, keep 1 page in 1000"
    size_bytes = 2 << 30
    touches = ("all",)
    rehearsal_bytes = 64 << 20
    guest_memory = "5G"

    def details(self, parameters: Parameters) -> Mapping[str, Any]:
        """How many tables are made, and how many pages are kept."""
        return {"units": parameters.size_bytes >> 21, "kept_one_in": _KEPT_ONE_IN}

    def run(self, measure: Measure, clean: Clean, parameters: Parameters) -> Outcome:
        """Fill it, and punch out every block that has none of the pages that are kept."""
        chooser = random.Random(parameters.seed)  # noqa: S311 -- to be the same at every run
        measure("start")
        with sparse_mapping(
            parameters.size_bytes,
            seed=parameters.seed,
            every_page=True,
            block=GRANULARITIES[parameters.granularity],
            memfd=True,
        ) as mapping:
            seconds = mapping.touch(0, mapping.units)
            pages = parameters.size_bytes // PAGE
            kept = sorted(chooser.sample(range(pages), pages // _KEPT_ONE_IN))
            checksums = {page: _fill(mapping, page, chooser) for page in kept}
            measure("touched", seconds)
            measure("released", _inflate(mapping, kept), [mapping.range])
            empty = list(between(sorted({page * PAGE // UNIT for page in kept}), mapping.units))
            clean(mapping, empty)
            intact = all(
                hashlib.sha256(_page(mapping, page)).digest() == checksum
                for page, checksum in checksums.items()
            )
            return Outcome(
                intact and mapping.released_reads_zero(empty, _SAMPLE), survivors=len(kept)
            )


def _page(mapping: SparseMapping, page: int) -> memoryview:
    return mapping.view[page * PAGE : (page + 1) * PAGE]


def _fill(mapping: SparseMapping, page: int, chooser: random.Random) -> bytes:
    content = chooser.randbytes(PAGE)
    _page(mapping, page)[:] = content
    return hashlib.sha256(content).digest()


def _inflate(mapping: SparseMapping, kept: Sequence[int]) -> float:
    """Punch out all blocks without a kept page; the seconds it took."""
    of_unit: dict[int, set[int]] = {}
    for page in kept:
        of_unit.setdefault(page * PAGE // UNIT, set()).add(page * PAGE // mapping.block)
    begin = time.monotonic()
    blocks = UNIT // mapping.block
    for unit in range(mapping.units):
        if unit not in of_unit:
            mapping.release(unit, unit + 1)
            continue
        for block in range(unit * blocks, (unit + 1) * blocks):
            if block not in of_unit[unit]:
                address = mapping.address + block * mapping.block
                _uapi.madvise(address, mapping.block, mapping.advice)
    return time.monotonic() - begin


WORKLOAD: Workload = Balloon()
