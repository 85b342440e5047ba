# SPDX-License-Identifier: MIT
"""What a process of many arenas takes under the hooks: memory, page tables, time to fork."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from experiments.allocators import ratios
from experiments.allocators.methods import HOOKS, NONE, ProgramMethod, jemalloc
from experiments.allocators.process import started
from experiments.part import Claim, Measured, Needs, Part, Row, Scale, at_most

_ROUNDS = 9
_FORKS = 15
# The number of arenas, each with a thread, and what each thread allocates: objects, and the bytes
# of the largest.
_ARENAS = 512
_QUICK_ARENAS = 64
_OBJECTS = (1000, 4000)
_MOST = 1.2
_CONF = {"narenas": str(_ARENAS)}


class Arenas(Part):
    name = "allocators/arenas"
    description = "memory and forks of a process of 512 arenas, under the hooks and without them"
    needs = Needs(hardware=True)

    def measure(self, scale: Scale) -> Measured:
        """Run both in turns, each time in a new process: nanoseconds of a fork, and bytes."""
        arenas = scale.pick(_ARENAS, _QUICK_ARENAS)
        taken: dict[str, list[dict[str, int]]] = {}

        def run(method: ProgramMethod) -> float:
            with started(method.with_malloc_conf(_CONF), jemalloc()) as process:
                process.tell("objects_in_threads", arenas, *_OBJECTS, scale.seed)
                taken.setdefault(method.name, []).append(process.tell("memory"))
                return float(median(process.tell("fork")[0] for _ in range(_FORKS)))

        fork_ns = ratios.compared(scale, _ROUNDS, (NONE, HOOKS), run)
        return {"arenas": arenas, "fork_ns": fork_ns, "bytes": taken}

    def title(self, measured: Measured) -> str:
        return f"A process of {measured['arenas']} arenas, each used by a thread"

    def claims(self, measured: Measured) -> list[Claim]:
        limits = {HOOKS.name: _MOST}
        of = {kind: _compared(measured["bytes"], kind) for kind in _kinds(measured)}
        return [
            *ratios.claims("the time of a fork without hooks", measured["fork_ns"], limits),
            *(
                at_most(f"times the {kind} without hooks", figures["median"], _MOST)
                for kind, figures in of.items()
            ),
        ]

    def rows(self, measured: Measured) -> Sequence[Row]:
        rows = ratios.rows(measured["fork_ns"], what="a fork, ")
        for kind in _kinds(measured):
            ratio = _compared(measured["bytes"], kind)["median"]
            for name, runs in measured["bytes"].items():
                times = "" if name == NONE.name else f", {ratio:.3f} times"
                kib = median(run[kind] for run in runs) / 1024
                rows.append((f"{kind}, {name}", f"{kib:,.0f} KiB{times}"))
        return rows


def _kinds(measured: Measured) -> Sequence[str]:
    return list(measured["bytes"][NONE.name][0])


def _compared(taken: Mapping[str, Any], kind: str) -> Mapping[str, float]:
    """Return the ratio of the bytes under the hooks to those without, as `ratios.interval` does."""
    hooks, none = ([run[kind] for run in taken[name]] for name in (HOOKS.name, NONE.name))
    return ratios.interval(hooks, none)


PART = Arenas()
