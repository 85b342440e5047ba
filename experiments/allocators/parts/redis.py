# SPDX-License-Identifier: MIT
"""CPU time of redis-server for each SET and GET of redis-benchmark, by each method."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from experiments.allocators import ratios, redis
from experiments.allocators.methods import (
    HOOKS,
    MODULE,
    NO_DEVICE,
    NONE,
    NULL,
    SLOWEST,
    ProgramMethod,
)
from experiments.part import Claim, Measured, Needs, Part, Row, Scale

_ROUNDS = 9
_REQUESTS = 150_000
_QUICK_REQUESTS = 10_000
_TESTS = ("set", "get")
_KEYS = 100_000
METHODS = (NONE, NULL, NO_DEVICE, MODULE, HOOKS)


class OfRedis(Part):
    name = "allocators/redis"
    description = "CPU time of redis-server for each SET and GET, on its own jemalloc"
    needs = Needs(hardware=True)

    def measure(self, scale: Scale) -> Measured:
        """Run rounds of each method in turn, a server each."""
        requests = scale.pick(_REQUESTS, _QUICK_REQUESTS)
        methods = {method.name: method for method in METHODS if method.works_here()}

        def run(name: str) -> float:
            scale.progress(name)
            return _served(methods[name], requests)

        rounds = scale.runs(_ROUNDS)
        return {"cpu_ns_by_request": ratios.compared(run, list(methods), rounds)}

    def claims(self, measured: Measured) -> list[Claim]:
        return ratios.claims("redis-server's CPU time", measured["cpu_ns_by_request"], SLOWEST)

    def rows(self, measured: Measured) -> Sequence[Row]:
        return ratios.rows(measured["cpu_ns_by_request"])


def _served(method: ProgramMethod, requests: int) -> float:
    """Return nanoseconds of the server's CPU time for each request."""
    options = ["-t", ",".join(_TESTS), "-r", str(_KEYS), "-q"]
    with (
        tempfile.TemporaryDirectory(prefix="pgtable-cleanup.") as directory,
        redis.running(Path(directory), method.environment([])) as server,
    ):
        server.benchmark(*options, "-n", str(requests // 5))
        before = server.cpu_ns()
        server.benchmark(*options, "-n", str(requests))
        return (server.cpu_ns() - before) / (requests * len(_TESTS))


PART = OfRedis()
