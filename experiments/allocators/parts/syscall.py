# SPDX-License-Identifier: MIT
"""The CPU time of each call of libc's syscall() with the library in front of it."""

from collections.abc import Sequence

from experiments.allocators import ratios
from experiments.allocators.methods import NONE, NULL, ProgramMethod
from experiments.allocators.process import started
from experiments.part import Measured, Needs, Part, Row, Scale

_ROUNDS = 9
_CALLS = 3_000_000
_QUICK_CALLS = 200_000


class Syscall(Part):
    name = "allocators/syscall"
    description = "CPU time of a syscall() that does nothing, getppid()"
    needs = Needs(hardware=True)

    def measure(self, scale: Scale) -> Measured:
        """Run the methods in turns, each time in a new process."""
        calls = scale.pick(_CALLS, _QUICK_CALLS)

        def run(method: ProgramMethod) -> float:
            with started(method, []) as process:
                process.tell("libc.syscalls", calls // 10)
                return process.cpu_ns("libc.syscalls", calls) / calls

        return {"cpu_ns_by_call": ratios.compared(scale, _ROUNDS, (NONE, NULL), run)}

    def rows(self, measured: Measured) -> Sequence[Row]:
        return ratios.rows(measured["cpu_ns_by_call"])


PART = Syscall()
