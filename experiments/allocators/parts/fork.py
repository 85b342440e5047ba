# SPDX-License-Identifier: MIT
"""The time that fork() takes after sparse use, with the empty page tables and without them."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from experiments.allocators.methods import MODULE, NONE, ProgramMethod
from experiments.allocators.process import started
from experiments.part import Claim, Measured, Part, Row, Scale, at_least

_UNITS = 32_768
_QUICK_UNITS = 2048
_FORKS = 20
_FASTER = 50
# The program itself releases all of the mapping by one MADV_DONTNEED.
_ZAP = ProgramMethod("zap")
_METHODS = (NONE, _ZAP, MODULE)


class Fork(Part):
    name = "allocators/fork"
    description = "fork() of a process of which all page tables but a few are empty"

    def measure(self, scale: Scale) -> Measured:
        """Time the first fork, in which the library frees tables, and the later forks.

        Where the module works, a quick measurement leaves out the zap, which frees no further ones.
        """
        units = scale.pick(_UNITS, _QUICK_UNITS)
        runs: dict[str, dict[str, Any]] = {}
        for method in (NONE, MODULE) if scale.quick and MODULE.works_here() else _METHODS:
            if method.works_here():
                scale.progress(method.name)
                runs[method.name] = _forks(method, scale.seed, units, scale.runs(_FORKS, 3))
        return {"units": units, "runs": runs}

    def title(self, measured: Measured) -> str:
        units = measured["units"]
        return (
            f"fork() of a process with {units >> 9} GiB reserved, of which {units:,} page tables "
            "are empty"
        )

    def claims(self, measured: Measured) -> list[Claim]:
        runs = measured["runs"]
        steady = runs[NONE.name]["steady_ns"]
        return [
            at_least(
                f"times faster forks in steady state, {name}",
                steady / runs[name]["steady_ns"],
                _FASTER,
            )
            for name in runs
            if name != NONE.name and runs[name]["freed"]
        ]

    def rows(self, measured: Measured) -> Sequence[Row]:
        return [(method, _shown(run)) for method, run in measured["runs"].items()]


def _shown(run: Mapping[str, Any]) -> str:
    first, steady, least, most = (
        f"{run[name] / 1e6:,.2f}" for name in ("first_ns", "steady_ns", "least_ns", "most_ns")
    )
    return (
        f"first {first} ms, then {steady} ms ({least} to {most}); the child has "
        f"{run['child_vmpte_bytes'] >> 10:,} kB of page tables; freeing {run['freed']:,} tables "
        f"took {run['freeing_ns'] / 1e6:,.1f} ms"
    )


def _forks(method: ProgramMethod, seed: int, units: int, number: int) -> dict[str, Any]:
    with started(method, []) as process:
        before = process.tables().tables
        process.tell("sparse", units, seed)
        full = process.tables().tables
        zap_ns = 1e9 * process.tell("zap") if method is _ZAP else 0
        first_ns, _ = process.tell("fork")
        later = [process.tell("fork") for _ in range(number)]
        freed, drains_ns = process.tell("drained")
        if method is _ZAP:
            freed = full - process.tables().tables
    taken = [taken_ns for taken_ns, _ in later]
    return {
        "first_ns": first_ns,
        "steady_ns": median(taken),
        "least_ns": min(taken),
        "most_ns": max(taken),
        "child_vmpte_bytes": later[-1][1],
        "tables_before": before,
        "freed": freed,
        "freeing_ns": zap_ns or drains_ns,
    }


PART = Fork()
