# SPDX-License-Identifier: MIT
"""The CPU time of calls of libc with the library in front of them, on memory of no file."""

from collections.abc import Sequence
from functools import partial

from experiments.allocators import ratios
from experiments.allocators.methods import NONE, NULL, ProgramMethod
from experiments.allocators.process import started
from experiments.part import Claim, Measured, Needs, Part, Row, Scale

_ROUNDS = 9
# One figure is of so many mappings of a page each, which are made, advised and unmapped, again and
# again; and of so many calls of syscall().
_MAPPINGS, _TURNS, _SYSCALLS = 10_000, 30, 3_000_000
_QUICK_SHARE = 15
_ORDERS = {"mmap()": "mmaps", "madvise()": "madvises", "munmap()": "munmaps"}
_SYSCALL = "syscall()"
_SLOWEST = {NULL.name: 1.1}


class Libc(Part):
    name = "allocators/libc"
    description = "CPU time of mmap(), madvise(), munmap() and a syscall() that does nothing"
    needs = Needs(hardware=True)

    def measure(self, scale: Scale) -> Measured:
        """Run the methods in turns for each call, each time in a new process."""
        share = scale.pick(1, _QUICK_SHARE)
        turns, calls = _TURNS // share, _SYSCALLS // share

        def call_of(order: str, method: ProgramMethod) -> float:
            spent = 0.0
            with started(method, []) as process:
                # The first turn has the page faults of the array of mappings.
                for turn in range(1 + turns):
                    by_order = {
                        name: process.cpu_ns(f"libc.{name}", _MAPPINGS) for name in _ORDERS.values()
                    }
                    spent += by_order[order] * bool(turn)
            return spent / turns / _MAPPINGS

        def syscall(method: ProgramMethod) -> float:
            with started(method, []) as process:
                process.tell("libc.syscalls", calls // 10)
                return process.cpu_ns("libc.syscalls", calls) / calls

        found = {}
        for name, order in _ORDERS.items():
            scale.progress(name)
            found[name] = ratios.compared(scale, _ROUNDS, (NONE, NULL), partial(call_of, order))
        scale.progress(_SYSCALL)
        found[_SYSCALL] = ratios.compared(scale, _ROUNDS, (NONE, NULL), syscall)
        return {"cpu_ns_by_call": found}

    def claims(self, measured: Measured) -> list[Claim]:
        found = measured["cpu_ns_by_call"]
        return [
            claim
            for name in _ORDERS
            for claim in ratios.claims(f"libc's CPU time, {name}", found[name], _SLOWEST)
        ]

    def rows(self, measured: Measured) -> Sequence[Row]:
        return [
            row
            for name, compared in measured["cpu_ns_by_call"].items()
            for row in ratios.rows(compared, what=f"{name}, ")
        ]


PART = Libc()
