# SPDX-License-Identifier: MIT
"""Shared memory in which one of several processes punches holes: all keep empty tables of it."""

import random
from collections.abc import Mapping
from typing import Any

from experiments.phases import Parameters
from experiments.stage import Stage
from experiments.workers import Orders, workers
from experiments.workload import Remains, Workload

_WORKERS = 4
# Of this many touched pages one holds data that stays.
_KEPT_ONE_IN = 1024


class SharedMemfd(Workload):
    name = "shared-memfd-32g"
    description = "five processes map a memfd of 32 GiB and read it here and there, one punches it"
    size_bytes = 32 << 30
    quick_bytes = 4 << 30
    rehearsal_bytes = 4 << 30

    def details_of(self, _parameters: Parameters) -> Mapping[str, Any]:
        """Return how many processes map the memory, and of how many pages one is kept."""
        return {"processes": 1 + _WORKERS, "kept_one_in": _KEPT_ONE_IN}

    def run(self, stage: Stage, parameters: Parameters) -> Remains:
        """Write to the memory, have the workers read it, and punch out all but a few pages."""
        chooser = random.Random(parameters.seed)  # noqa: S311 -- to be the same at every run
        with self.mapping(parameters, memfd=True) as mapping:
            kept = sorted(chooser.sample(range(mapping.units), mapping.units // _KEPT_ONE_IN))
            orders: Orders = {
                "read": lambda: sum(mapping.page(unit)[0] for unit in range(mapping.units)),
                "check": lambda: mapping.is_filled(kept),
            }
            # The workers are forked before any table is made, so that each makes its own.
            with workers(_WORKERS, orders) as others:
                stage.pids = others.pids
                stage.measure("start")
                seconds = mapping.touch(0, mapping.units)
                mapping.fill(kept)
                others.tell("read")
                stage.measure("touched", seconds)
                empty = mapping.around(kept)
                releasing = sum(mapping.release(first, last) for first, last in empty)
                stage.clean(mapping.range, empty, releasing)
                intact = [mapping.is_filled(kept), others.tell("check")]
                return Remains(
                    all(intact) and mapping.released_reads_zero(empty), survivors=len(kept)
                )


PART = SharedMemfd()
