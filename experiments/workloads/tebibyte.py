# SPDX-License-Identifier: MIT
"""The proposal's own example: 1 TiB touched sparsely, 2 GiB of PTE tables for next to no memory."""

import hashlib
import random
from collections.abc import Mapping
from typing import Any

from experiments.phases import GRANULARITIES, Parameters
from experiments.sparse import PAGE, UNIT, between, sparse_mapping
from experiments.workload import Clean, Measure, Outcome, Workload

# So many units are touched before they are released, so that the guest needs memory for
# the tables and little more.
_STRETCH = 4096
_SAMPLE = 64


class Tebibyte(Workload):
    name = "tebibyte"
    description = "touch one page per 2 MiB of 1 TiB, release each alone, keep 1 in 4096"
    size_bytes = 1 << 40
    quick_bytes = 16 << 30
    rehearsal_bytes = _STRETCH * UNIT
    # Of each whole stretch, one touched page.
    keeps = True

    def details_of(self, parameters: Parameters) -> Mapping[str, Any]:
        """Return how much is touched before it is released, and how much is kept."""
        return {
            "units": parameters.size_bytes >> 21,
            "stretch_units": _STRETCH,
            "kept_one_in": _STRETCH if self.keeps else None,
        }

    def run(self, measure: Measure, clean: Clean, parameters: Parameters) -> Outcome:
        """Touch a stretch, release it but for one page chosen by the seed, go on to the next."""
        chooser = random.Random(parameters.seed)  # noqa: S311 -- to be the same at every run
        checksums: dict[int, bytes] = {}
        measure("start")
        with sparse_mapping(
            parameters.size_bytes,
            seed=parameters.seed,
            every_page=False,
            block=GRANULARITIES[parameters.granularity],
        ) as mapping:
            releasing = 0.0
            for first in range(0, mapping.units, _STRETCH):
                last = min(first + _STRETCH, mapping.units)
                seconds = mapping.touch(first, last)
                kept = last
                if self.keeps and last - first == _STRETCH:
                    kept = chooser.randrange(first, last)
                    content = chooser.randbytes(PAGE)
                    mapping.page(kept)[:] = content
                    checksums[kept] = hashlib.sha256(content).digest()
                measure("touched", seconds)
                releasing += mapping.release(first, kept)
                releasing += mapping.release(min(kept + 1, last), last)
            measure("released", releasing, [mapping.range])
            empty = list(between(sorted(checksums), mapping.units))
            clean(mapping, empty)
            intact = all(
                hashlib.sha256(mapping.page(unit)).digest() == checksum
                for unit, checksum in checksums.items()
            )
            return Outcome(
                intact and mapping.released_reads_zero(empty, _SAMPLE), survivors=len(checksums)
            )


PART = Tebibyte()
