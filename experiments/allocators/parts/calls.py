# SPDX-License-Identifier: MIT
"""Instructions of the same churn in a guest, with the module's real calls among them."""

from collections.abc import Sequence

from experiments.allocators import ratios
from experiments.allocators.methods import (
    HOOKS,
    HOOKS_MODULE,
    MODULE,
    NONE,
    NULL,
    RETAIN_FALSE,
    ProgramMethod,
    jemalloc,
)
from experiments.allocators.process import started
from experiments.part import COUNTING, Measured, Part, Row, Scale

_ROUNDS = 5
_OBJECTS, _STEPS = 100_000, 200_000
_QUICK_OBJECTS, _QUICK_STEPS = 10_000, 5_000
_MOST = 1008
# All but a few go and come back, so that each round has tables to free.
_KEPT = (50, 1000)
METHODS = (NONE, RETAIN_FALSE, NULL, MODULE, HOOKS, HOOKS_MODULE)


class Calls(Part):
    name = "allocators/calls"
    description = "instructions of allocating, freeing and purging, against jemalloc alone"
    needs = COUNTING

    def measure(self, scale: Scale) -> Measured:
        """Run rounds of each method in turn; a process's CPU time counts its instructions."""
        objects = scale.pick(_OBJECTS, _QUICK_OBJECTS)
        steps = scale.pick(_STEPS, _QUICK_STEPS)
        wanted = (NONE, MODULE, HOOKS) if scale.quick else METHODS
        methods = {method.name: method for method in wanted if method.works_here()}

        def run(name: str) -> float:
            scale.progress(name)
            return _worked(methods[name], scale.seed, objects, steps)

        return {
            "objects": objects,
            "instructions_by_operation": ratios.compared(run, list(methods), scale.runs(_ROUNDS)),
        }

    def rows(self, measured: Measured) -> Sequence[Row]:
        return ratios.rows(measured["instructions_by_operation"], "instructions")


def _worked(method: ProgramMethod, seed: int, objects: int, steps: int) -> float:
    """Return nanoseconds, of which each is an instruction, for each step."""
    with started(method, jemalloc()) as process:
        process.tell("objects", objects, _MOST, seed, False)
        return float(process.tell("mixed", steps, _KEPT)) / steps


PART = Calls()
