# SPDX-License-Identifier: MIT
"""Instructions of allocating and freeing in a guest, including the module's real calls."""

from collections.abc import Sequence

from experiments.allocators import empties, methods, ratios
from experiments.allocators.process import started
from experiments.part import COUNTING, Measured, Part, Row, Scale

_ROUNDS = 5
_OBJECTS, _STEPS = 100_000, 200_000
_QUICK_OBJECTS, _QUICK_STEPS = 10_000, 5_000
# For each number, all but one object in that many are freed, which empties tables, and remade.
_KEPT = (50, 1000)
_QUICK_METHODS = (methods.NONE, methods.MODULE, methods.HOOKS)
_METHODS = (
    *(methods.NONE, methods.RETAIN_FALSE, methods.NULL, methods.MODULE),
    *(methods.HOOKS, methods.HOOKS_MODULE),
)


class Calls(Part):
    name = "allocators/calls"
    description = "instructions of allocating, freeing and purging, against jemalloc alone"
    needs = COUNTING

    def measure(self, scale: Scale) -> Measured:
        """Run the methods in turns; here a process's CPU time is a count of its instructions."""
        objects = scale.pick(_OBJECTS, _QUICK_OBJECTS)
        steps = scale.pick(_STEPS, _QUICK_STEPS)

        def run(method: methods.ProgramMethod) -> float:
            with started(method, methods.jemalloc()) as process:
                process.tell("objects", objects, empties.MOST, scale.seed, False)
                return process.cpu_ns("mixed", steps, _KEPT) / steps

        wanted = _QUICK_METHODS if scale.quick else _METHODS
        return {
            "objects": objects,
            "instructions_by_operation": ratios.compared(scale, _ROUNDS, wanted, run),
        }

    def rows(self, measured: Measured) -> Sequence[Row]:
        return ratios.rows(measured["instructions_by_operation"], "instructions")


PART = Calls()
