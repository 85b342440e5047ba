# SPDX-License-Identifier: MIT
"""CPU time of redis-server for each SET and GET of redis-benchmark, by each way."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from experiments.allocators import paired, redis
from experiments.allocators.ways import HOOKS, MODULE, NO_DEVICE, NULL, PLAIN, SLOWEST, Way
from experiments.measure import Progress
from experiments.suite.part import Guest, Part, Result, Row

_ROUNDS = 9
_REQUESTS = 150_000
_TESTS = ("set", "get")
_KEYS = 100_000
WAYS = (PLAIN, NULL, NO_DEVICE, MODULE, HOOKS)


class OfRedis:
    """See `Part`."""

    name = "redis"
    description = "CPU time of redis-server for each SET and GET, on its own jemalloc"
    guest = Guest(icount=False, cpus=2, hardware=True)

    def measure(
        self,
        *,
        quick: bool,
        seed: int,  # noqa: ARG002 -- redis-benchmark draws its keys itself
        progress: Progress,
    ) -> Result:
        """Rounds of each way in turn, a server each."""
        ways = {way.name: way for way in WAYS if way.works_here()}
        names = list(ways)

        def run(name: str) -> float:
            progress(name)
            return _served(ways[name])

        measured = paired.ratios(run, names[0], names[1:], 3 if quick else _ROUNDS)
        return {
            "cpu_ns_by_request": measured,
            "claims": paired.claims("redis-server's CPU time", measured, SLOWEST),
        }

    def rows(self, result: Result) -> Sequence[Row]:
        """See `Part`."""
        return paired.rows(result["cpu_ns_by_request"])


def _served(way: Way) -> float:
    """Nanoseconds of the server's CPU time for each request."""
    options = ["-t", ",".join(_TESTS), "-r", str(_KEYS), "-q"]
    with (
        tempfile.TemporaryDirectory(prefix="pgtable-cleanup.") as directory,
        redis.running(Path(directory), way.environment([])) as server,
    ):
        server.benchmark(*options, "-n", str(_REQUESTS // 5))
        before = server.cpu_ns()
        server.benchmark(*options, "-n", str(_REQUESTS))
        return (server.cpu_ns() - before) / (_REQUESTS * len(_TESTS))


PART: Part = OfRedis()
