# SPDX-License-Identifier: MIT
"""Instructions of the same churn in a guest, with the module's real calls among them."""

from collections.abc import Sequence

from experiments.allocators import paired
from experiments.allocators.process import started
from experiments.allocators.ways import (
    HOOKS,
    HOOKS_MODULE,
    MODULE,
    NULL,
    PLAIN,
    RETAIN_FALSE,
    Way,
    jemalloc,
)
from experiments.measure import Progress
from experiments.suite.part import Guest, Part, Result, Row

_ROUNDS = 5
_OBJECTS = 100_000
_MOST = 1008
# All but a few go and come back, so that each round has tables to free.
_KEPT = (50, 1000)
_STEPS = 200_000
WAYS = (PLAIN, RETAIN_FALSE, NULL, MODULE, HOOKS, HOOKS_MODULE)


class Calls:
    """See `Part`."""

    name = "calls"
    description = "instructions of allocating, freeing and purging, against jemalloc alone"
    guest = Guest(icount=True, cpus=1, memory="3G")

    def measure(self, *, quick: bool, seed: int, progress: Progress) -> Result:
        """Rounds of each way in turn; a process's CPU time counts its instructions."""
        ways = {way.name: way for way in WAYS if way.works_here()}
        names = list(ways)

        def run(name: str) -> float:
            progress(name)
            return _worked(ways[name], seed)

        return {
            "objects": _OBJECTS,
            "instructions_by_operation": paired.ratios(
                run, names[0], names[1:], 1 if quick else _ROUNDS
            ),
        }

    def rows(self, result: Result) -> Sequence[Row]:
        """See `Part`."""
        return paired.rows(result["instructions_by_operation"], "instructions")


def _worked(way: Way, seed: int) -> float:
    """Nanoseconds, of which each is an instruction, for each step."""
    with started(way, jemalloc()) as process:
        process.tell("objects", _OBJECTS, _MOST, seed, False)
        return float(process.tell("mixed", _STEPS, _KEPT)) / _STEPS


PART: Part = Calls()
