# SPDX-License-Identifier: MIT
"""Dense memory, released but for a few scattered blocks: a table that maps one of these stays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.phases import Parameters
from experiments.stage import Stage
from experiments.workload import Remains, Workload

# This many units are touched before they are released: a guest then needs memory for little
# more than the tables and the blocks that survive.
_STRETCH = 64


@dataclass(frozen=True)
class Survivors(Workload):
    """Memory of which `per_million` of a million blocks survive; a call releases one block."""

    name: str
    per_million: int
    description: str
    size_bytes: int = 1 << 30
    quick_bytes: int = 64 << 20
    touches: tuple[str, ...] = ("all",)
    granularities: tuple[str, ...] = ("4k", "64k", "2m")
    rehearsal_bytes: int = 64 << 20
    control: bool = False
    memfd: bool = False

    def details_of(self, _parameters: Parameters) -> Mapping[str, Any]:
        """Return how much is touched before it is released, and how much is kept."""
        return {"stretch_units": _STRETCH, "kept_per_million": self.per_million}

    def run(self, stage: Stage, parameters: Parameters) -> Remains:
        """Touch every page of a stretch, release all but some of its blocks, go on to the next."""
        stage.measure("start")
        with self.mapping(parameters, memfd=self.memfd) as mapping:
            releasing, survivors = 0.0, 0
            keeping: list[int] = []
            for first in range(0, mapping.units, _STRETCH):
                last = min(first + _STRETCH, mapping.units)
                stage.measure("touched", mapping.touch(first, last))
                seconds, kept, units = mapping.release_but(first, last, self.per_million)
                releasing += seconds
                survivors += kept
                keeping += units
            empty = mapping.around(keeping)
            stage.clean(mapping.range, empty, releasing)
            return Remains(
                mapping.kept_intact(self.per_million)
                and (not empty or mapping.released_reads_zero(empty)),
                survivors=survivors,
                counts={"tables that a survivor keeps": len(keeping)},
            )


PARTS = (
    Survivors(
        "survivors-none",
        0,
        "fill 1 GiB, release it by blocks: nothing survives",
    ),
    Survivors(
        "survivors-0.1-percent",
        1_000,
        "fill 1 GiB, release it by blocks: 1 block in 1,000 survives",
    ),
    Survivors(
        "survivors-1-percent",
        10_000,
        "fill 1 GiB, release it by blocks: 1 block in 100 survives",
    ),
    Survivors(
        "dense-1g",
        500_000,
        "fill 1 GiB, release half of its blocks: a dense heap, where nothing is to be gained",
        control=True,
    ),
    # This is like a guest's memory in the hypervisor after a balloon has grown in the guest.
    Survivors(
        "balloon-2g",
        1_000,
        "fill a memfd of 2 GiB, punch holes in it by blocks: 1 block in 1,000 survives",
        size_bytes=2 << 30,
        granularities=("64k", "4k", "2m"),
        memfd=True,
    ),
)
