# SPDX-License-Identifier: MIT
"""CPU time of redis-server for each SET and GET of redis-benchmark, with each method."""

from collections.abc import Sequence

from experiments.allocators import methods, ratios, redis
from experiments.part import Claim, Measured, Needs, Part, Row, Scale

_ROUNDS = 9
_REQUESTS = 150_000
_QUICK_REQUESTS = 10_000
_TESTS = ("set", "get")
_KEYS = 100_000
_METHODS = (methods.NONE, methods.NULL, methods.NO_DEVICE, methods.MODULE, methods.HOOKS)


class OfRedis(Part):
    name = "allocators/redis"
    description = "CPU time of redis-server for each SET and GET, on its own jemalloc"
    needs = Needs(hardware=True)

    def measure(self, scale: Scale) -> Measured:
        """Run the methods in turns, each time with a new server."""
        requests = scale.pick(_REQUESTS, _QUICK_REQUESTS)
        options = ["-t", ",".join(_TESTS), "-r", str(_KEYS), "-q", "-n"]

        def run(method: methods.ProgramMethod) -> float:
            with redis.run_by(method) as server:
                server.benchmark(*options, str(requests // 5))
                before = server.cpu_ns()
                server.benchmark(*options, str(requests))
                return (server.cpu_ns() - before) / (requests * len(_TESTS))

        return {"cpu_ns_by_request": ratios.compared(scale, _ROUNDS, _METHODS, run)}

    def claims(self, measured: Measured) -> list[Claim]:
        compared = measured["cpu_ns_by_request"]
        return ratios.claims("redis-server's CPU time", compared, methods.SLOWEST)

    def rows(self, measured: Measured) -> Sequence[Row]:
        return ratios.rows(measured["cpu_ns_by_request"])


PART = OfRedis()
