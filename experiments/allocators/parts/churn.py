# SPDX-License-Identifier: MIT
"""CPU time of a program that does little but allocate and free, against jemalloc alone."""

from collections.abc import Sequence

from experiments.allocators import ratios
from experiments.allocators.methods import (
    HOOKS,
    NO_DEVICE,
    NONE,
    NULL,
    RETAIN_FALSE,
    SLOWEST,
    ProgramMethod,
    jemalloc,
)
from experiments.allocators.process import started
from experiments.part import Claim, Measured, Needs, Part, Row, Scale, at_most

_ROUNDS = 9
# Live objects, the bytes of the largest, and how often one comes or goes.
_SMALL = (200_000, 1008, 20_000_000)
# Of small ones few pages are ever given back, which costs nothing by any method.
_LARGER = (20_000, 16 << 10, 3_000_000)
# At decay 0 every free is a release: the hooks against the option that does the same.
_QUICK_SHARE = 20
_DECAY_0 = {"dirty_decay_ms": "0", "muzzy_decay_ms": "0"}
_SHOWN = {"default": "objects up to 1 KiB", "decay_0": "up to 16 KiB at decay 0"}


class Churn(Part):
    name = "allocators/churn"
    description = "CPU time of allocating and freeing objects, against jemalloc alone"
    needs = Needs(hardware=True)

    def measure(self, scale: Scale) -> Measured:
        """Run rounds of each method in turn, a process each: at the default decay, and at none."""
        rounds, share = scale.runs(_ROUNDS), scale.pick(1, _QUICK_SHARE)

        def run(name: str) -> float:
            return _churn(by_name[name], scale.seed, *_SMALL, {}, share)

        def run_at_decay_0(name: str) -> float:
            return _churn(by_name[name], scale.seed, *_LARGER, _DECAY_0, share)

        methods = [method for method in (NONE, NULL, NO_DEVICE, HOOKS) if method.works_here()]
        by_name = {method.name: method for method in (*methods, RETAIN_FALSE)}
        scale.progress("at the default decay")
        default = ratios.compared(run, [method.name for method in methods], rounds)
        scale.progress("at decay 0")
        none = ratios.compared(run_at_decay_0, [NONE.name, RETAIN_FALSE.name, HOOKS.name], rounds)
        return {
            "live_objects_of_bytes": {"default": _SMALL[:2], "decay_0": _LARGER[:2]},
            "cpu_ns_by_operation": {"default": default, "decay_0": none},
        }

    def claims(self, measured: Measured) -> list[Claim]:
        default, none = measured["cpu_ns_by_operation"].values()
        return [
            *ratios.claims("jemalloc's CPU time, small objects", default, SLOWEST),
            at_most(
                f"times jemalloc's CPU time at decay 0, hooks, against {RETAIN_FALSE.name}",
                none[HOOKS.name]["ratio"]["median"],
                none[RETAIN_FALSE.name]["ratio"]["median"],
            ),
        ]

    def rows(self, measured: Measured) -> Sequence[Row]:
        return [
            row
            for decay, methods in measured["cpu_ns_by_operation"].items()
            for row in ratios.rows(methods, what=f"{_SHOWN[decay]}, ")
        ]


def _churn(
    method: ProgramMethod,
    seed: int,
    objects: int,
    most: int,
    steps: int,
    malloc_conf: dict[str, str],
    share: int,
) -> float:
    """Return nanoseconds of CPU time for each allocation or release."""
    with started(method.with_malloc_conf(malloc_conf), jemalloc()) as process:
        steps //= share
        process.tell("objects", objects // share, most, seed, False)
        # The first steps find what the filling left.
        process.tell("churn", steps // 10)
        return float(process.tell("churn", steps)) / steps


PART = Churn()
