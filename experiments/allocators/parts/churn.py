# SPDX-License-Identifier: MIT
"""CPU time of a program that does little but allocate and free, against jemalloc alone."""

from collections.abc import Mapping, Sequence

from experiments.allocators import methods, ratios
from experiments.allocators.methods import HOOKS, NO_DEVICE, NONE, NULL, RETAIN_FALSE
from experiments.allocators.process import started
from experiments.part import Claim, Measured, Needs, Part, Row, Scale, at_most

_ROUNDS = 9
# The number of live objects, the bytes of the largest, and the number of allocations and frees.
_SMALL = (200_000, 1008, 20_000_000)
# Small objects give hardly any page back, so that no method has work to do: these are larger.
_LARGER = (20_000, 16 << 10, 3_000_000)
# At decay 0 jemalloc releases each free page at once: by the hooks or, with retain:false, munmap().
_DECAY_0 = {"dirty_decay_ms": "0", "muzzy_decay_ms": "0"}
_QUICK_SHARE = 20
_SHOWN = {"default": "objects up to 1 KiB", "decay_0": "up to 16 KiB at decay 0"}


class Churn(Part):
    name = "allocators/churn"
    description = "CPU time of allocating and freeing objects, against jemalloc alone"
    needs = Needs(hardware=True)

    def measure(self, scale: Scale) -> Measured:
        """Run the methods in turns, each time in a new process, at default decay and at decay 0."""
        scale.progress("at the default decay")
        default = _compared(scale, (NONE, NULL, NO_DEVICE, HOOKS), {}, *_SMALL)
        scale.progress("at decay 0")
        none = _compared(scale, (NONE, RETAIN_FALSE, HOOKS), _DECAY_0, *_LARGER)
        return {
            "live_objects_of_bytes": {"default": _SMALL[:2], "decay_0": _LARGER[:2]},
            "cpu_ns_by_operation": {"default": default, "decay_0": none},
        }

    def claims(self, measured: Measured) -> list[Claim]:
        default, none = measured["cpu_ns_by_operation"].values()
        return [
            *ratios.claims("jemalloc's CPU time, small objects", default, methods.SLOWEST),
            at_most(
                f"times jemalloc's CPU time at decay 0, hooks, against {RETAIN_FALSE.name}",
                none[HOOKS.name]["ratio"]["median"],
                none[RETAIN_FALSE.name]["ratio"]["median"],
            ),
        ]

    def rows(self, measured: Measured) -> Sequence[Row]:
        return [
            row
            for decay, compared in measured["cpu_ns_by_operation"].items()
            for row in ratios.rows(compared, what=f"{_SHOWN[decay]}, ")
        ]


def _compared(
    scale: Scale,
    wanted: Sequence[methods.ProgramMethod],
    malloc_conf: Mapping[str, str],
    objects: int,
    most: int,
    steps: int,
) -> Measured:
    """Compare nanoseconds of CPU time for each allocation or release."""
    share = scale.pick(1, _QUICK_SHARE)
    steps //= share

    def run(method: methods.ProgramMethod) -> float:
        with started(method.with_malloc_conf(malloc_conf), methods.jemalloc()) as process:
            process.tell("objects", objects // share, most, scale.seed, False)
            # Warm up: the first steps still find the heap as the filling left it.
            process.tell("heap.churn", steps // 10)
            return process.cpu_ns("heap.churn", steps) / steps

    return ratios.compared(scale, _ROUNDS, wanted, run)


PART = Churn()
