# SPDX-License-Identifier: MIT
"""The proposal's own example: 1 TiB touched sparsely, 2 GiB of PTE tables for next to no memory."""

import random
from collections.abc import Mapping
from typing import Any

from experiments.phases import Parameters
from experiments.sparse import UNIT
from experiments.stage import Stage
from experiments.workload import Remains, Workload

# This many units are touched before they are released: a guest then needs memory for little
# more than the tables.
_STRETCH = 4096


class Tebibyte(Workload):
    name = "tebibyte"
    description = "touch one page per 2 MiB of 1 TiB, release each alone, keep 1 in 4096"
    size_bytes = 1 << 40
    quick_bytes = 16 << 30
    rehearsal_bytes = _STRETCH * UNIT
    # Whether one touched page in each stretch of units is kept.
    keeps = True

    def details_of(self, _parameters: Parameters) -> Mapping[str, Any]:
        """Return how much is touched before it is released, and how much is kept."""
        return {"stretch_units": _STRETCH, "kept_one_in": _STRETCH if self.keeps else None}

    def run(self, stage: Stage, parameters: Parameters) -> Remains:
        """Touch a stretch, release it but for one page chosen by the seed, go on to the next."""
        chooser = random.Random(parameters.seed)  # noqa: S311 -- to be the same at every run
        kept: list[int] = []
        stage.measure("start")
        with self.mapping(parameters) as mapping:
            releasing = 0.0
            for first in range(0, mapping.units, _STRETCH):
                last = min(first + _STRETCH, mapping.units)
                seconds = mapping.touch(first, last)
                stays = last
                if self.keeps and last - first == _STRETCH:
                    stays = chooser.randrange(first, last)
                    mapping.fill([stays])
                    kept.append(stays)
                stage.measure("touched", seconds)
                releasing += mapping.release(first, stays)
                releasing += mapping.release(min(stays + 1, last), last)
            empty = mapping.around(kept)
            stage.clean(mapping.range, empty, releasing)
            return Remains(
                mapping.is_filled(kept) and mapping.released_reads_zero(empty), survivors=len(kept)
            )


class TebibyteEmpty(Tebibyte):
    """The workload `tebibyte` without survivors: all tables become empty, also on upper levels."""

    name = "tebibyte-empty"
    description = "touch one page per 2 MiB of 1 TiB, release each alone, keep none"
    keeps = False


PARTS = (Tebibyte(), TebibyteEmpty())
