# SPDX-License-Identifier: MIT
"""fork() after sparse use: what its copying of empty page tables takes, with and without them."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from experiments.allocators.process import Process, started
from experiments.allocators.ways import MODULE, PLAIN, Way
from experiments.measure import Progress
from experiments.suite.part import Guest, Part, Result, Row, at_least

_UNITS = 32_768
_FORKS = 20
_FASTER = 50
_ZAP = Way("zap", "one MADV_DONTNEED over all of it, by the program")
WAYS = (PLAIN, _ZAP, MODULE)


class Fork:
    """See `Part`."""

    name = "fork"
    description = "fork() of a process with 64 GiB reserved, of which 32,768 page tables are empty"
    guest = Guest(icount=False, cpus=2)

    def measure(self, *, quick: bool, seed: int, progress: Progress) -> Result:
        """The first fork after the releases, its handlers included, and those after it."""
        runs: dict[str, dict[str, Any]] = {}
        for way in WAYS:
            if way.works_here():
                progress(way.name)
                with started(way, []) as process:
                    runs[way.name] = _forks(process, way is _ZAP, seed, 3 if quick else _FORKS)
        steady = runs[PLAIN.name]["steady_ns"]
        return {
            "units": _UNITS,
            "runs": runs,
            "claims": [
                at_least(
                    f"times faster forks in steady state, {name}",
                    steady / runs[name]["steady_ns"],
                    _FASTER,
                )
                for name in runs
                if name != PLAIN.name and runs[name]["freed"]
            ],
        }

    def rows(self, result: Result) -> Sequence[Row]:
        """See `Part`."""
        return [(way, _shown(run)) for way, run in result["runs"].items()]


def _shown(run: Mapping[str, Any]) -> str:
    first, steady, least, most = (
        f"{run[name] / 1e6:,.2f}" for name in ("first_ns", "steady_ns", "least_ns", "most_ns")
    )
    return (
        f"first {first} ms, then {steady} ms ({least} to {most}); the child has "
        f"{run['child_vmpte_bytes'] >> 10:,} kB of page tables; freeing {run['freed']:,} tables "
        f"took {run['freeing_ns'] / 1e6:,.1f} ms"
    )


def _forks(process: Process, zap: bool, seed: int, number: int) -> dict[str, Any]:
    before = process.tables().tables
    process.tell("sparse", _UNITS, seed)
    full = process.tables().tables
    freeing_ns = 1e9 * process.tell("zap") if zap else 0
    first_ns, _ = process.tell("fork")
    later = [process.tell("fork") for _ in range(number)]
    freed, drains_ns = process.tell("drained")
    if zap:
        freed = full - process.tables().tables
    return {
        "first_ns": first_ns,
        "steady_ns": median(taken for taken, _ in later),
        "least_ns": min(taken for taken, _ in later),
        "most_ns": max(taken for taken, _ in later),
        "child_vmpte_bytes": later[-1][1],
        "tables_before": before,
        "freed": freed,
        "freeing_ns": freeing_ns or drains_ns,
    }


PART: Part = Fork()
