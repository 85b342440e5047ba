# SPDX-License-Identifier: MIT
"""CPU time of a program that does little but allocate and free, against jemalloc alone."""

from collections.abc import Sequence

from experiments.allocators import paired
from experiments.allocators.process import started
from experiments.allocators.ways import (
    HOOKS,
    NO_DEVICE,
    NULL,
    PLAIN,
    RETAIN_FALSE,
    SLOWEST,
    Way,
    jemalloc,
)
from experiments.measure import Progress
from experiments.suite.part import Guest, Part, Result, Row, at_most

_ROUNDS = 9
# Live objects of up to so many bytes, and how often one comes or goes.
_SMALL = (200_000, 1008, 20_000_000)
# Of small ones few pages are ever given back, which costs nothing by any way.
_LARGER = (20_000, 16 << 10, 3_000_000)
# At decay 0 every free is a release: the hooks against the option that does the same.
_DECAY_0 = {"dirty_decay_ms": "0", "muzzy_decay_ms": "0"}
_SHOWN = {"default": "objects up to 1 KiB", "decay_0": "up to 16 KiB at decay 0"}


class Churn:
    """See `Part`."""

    name = "churn"
    description = "CPU time of allocating and freeing objects, against jemalloc alone"
    guest = Guest(icount=False, cpus=2, hardware=True)

    def measure(self, *, quick: bool, seed: int, progress: Progress) -> Result:
        """Rounds of each way in turn, a process each; once at the default decay, once at none."""
        rounds = 3 if quick else _ROUNDS

        def run(name: str) -> float:
            return _churn(by_name[name], seed, *_SMALL, {})

        def run_at_decay_0(name: str) -> float:
            return _churn(by_name[name], seed, *_LARGER, _DECAY_0)

        ways = [way for way in (PLAIN, NULL, NO_DEVICE, HOOKS) if way.works_here()]
        by_name = {way.name: way for way in (*ways, RETAIN_FALSE)}
        progress("at the default decay")
        default = paired.ratios(run, PLAIN.name, [way.name for way in ways[1:]], rounds)
        progress("at decay 0")
        none = paired.ratios(run_at_decay_0, PLAIN.name, [RETAIN_FALSE.name, HOOKS.name], rounds)
        return {
            "live_objects_of_bytes": {"default": _SMALL[:2], "decay_0": _LARGER[:2]},
            "cpu_ns_by_operation": {"default": default, "decay_0": none},
            "claims": [
                *paired.claims("jemalloc's CPU time, small objects", default, SLOWEST),
                at_most(
                    f"times jemalloc's CPU time at decay 0, hooks, against {RETAIN_FALSE.name}",
                    none[HOOKS.name]["ratio"]["median"],
                    none[RETAIN_FALSE.name]["ratio"]["median"],
                ),
            ],
        }

    def rows(self, result: Result) -> Sequence[Row]:
        """See `Part`."""
        return [
            row
            for decay, ways in result["cpu_ns_by_operation"].items()
            for row in paired.rows(ways, what=f"{_SHOWN[decay]}, ")
        ]


def _churn(
    way: Way, seed: int, objects: int, most: int, steps: int, malloc_conf: dict[str, str]
) -> float:
    """Nanoseconds of CPU time for each allocation or release."""
    with started(way.with_malloc_conf(malloc_conf), jemalloc()) as process:
        process.tell("objects", objects, most, seed, False)
        # The first steps find what the filling left.
        process.tell("churn", steps // 10)
        return float(process.tell("churn", steps)) / steps


PART: Part = Churn()
