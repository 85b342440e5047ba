# SPDX-License-Identifier: MIT
"""What each syscall() of a program pays where the library sees to those, too."""

from collections.abc import Sequence

from experiments.allocators import paired
from experiments.allocators.process import started
from experiments.allocators.ways import NULL, PLAIN, Way
from experiments.measure import Progress
from experiments.suite.part import Guest, Part, Result, Row

_ROUNDS = 9
_CALLS = 3_000_000
_SEEN = Way(
    "syscall() seen, backend:null", "libpgtable_cleanup_syscall.so", NULL.conf, syscall=True
)
WAYS = (PLAIN, NULL, _SEEN)


class Syscall:
    """See `Part`."""

    name = "syscall"
    description = "CPU time of a syscall() that does nothing, getppid(), seen by the library or not"
    guest = Guest(icount=False, cpus=2, hardware=True)

    def measure(
        self,
        *,
        quick: bool,
        seed: int,  # noqa: ARG002 -- nothing is left to chance
        progress: Progress,
    ) -> Result:
        """Rounds of each way in turn, a process each."""
        ways = {way.name: way for way in WAYS}

        def run(name: str) -> float:
            with started(ways[name], []) as process:
                process.tell("syscalls", _CALLS // 10)
                return float(process.tell("syscalls", _CALLS)) / _CALLS

        progress(f"{_CALLS:,} calls at a time")
        names = list(ways)
        return {"cpu_ns_by_call": paired.ratios(run, names[0], names[1:], 3 if quick else _ROUNDS)}

    def rows(self, result: Result) -> Sequence[Row]:
        """See `Part`."""
        return paired.rows(result["cpu_ns_by_call"])


PART: Part = Syscall()
