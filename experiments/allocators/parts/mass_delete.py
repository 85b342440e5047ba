# SPDX-License-Identifier: MIT
"""Empty page tables after nearly all objects are freed at once, thread caches on and off."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.allocators import left, redis
from experiments.allocators.process import started
from experiments.allocators.ways import HOOKS, MODULE, PLAIN, Way, jemalloc
from experiments.measure import ExperimentError, Progress
from experiments.suite.part import Guest, Part, Result, Row, Saving
from experiments.summary import size_text

_BYTES = 512 << 20
_QUICK_BYTES = 128 << 20
_MOST = 1008
_KEEP_ONE_IN = 100_000
_GRACE = 2
# By jemalloc's conf.
CACHES: Mapping[str, Mapping[str, str]] = {
    "with thread caches": {},
    "without": {"tcache": "false"},
}
PROGRAMS = ("a heap", "redis-server")
WAYS = (PLAIN, MODULE, HOOKS)

# In the server, for its own speed: keys, and strings of up to so many bytes.
_VALUE = "local function value(i, most) return string.rep('x', i * 7919 % most + 1) end "
_FILL = _VALUE + (
    "for i = 1, ARGV[1] do redis.call('SET', 'key:' .. i, value(i, ARGV[2])) end return 0"
)
_DELETE = "for i = 1, ARGV[1] do if i % ARGV[2] ~= 0 then redis.call('DEL', 'key:' .. i) end end"
_DAMAGED = _VALUE + (
    "local n = 0 for i = ARGV[3], ARGV[1], ARGV[3] do "
    "if redis.call('GET', 'key:' .. i) ~= value(i, ARGV[2]) then n = n + 1 end end return n"
)


class MassDelete:
    """See `Part`."""

    name = "mass_delete"
    description = (
        "empty page tables after all but 1 object in 100,000 are freed at once and jemalloc purged"
    )
    guest = Guest(icount=False, cpus=2, memory="4G")

    def measure(self, *, quick: bool, seed: int, progress: Progress) -> Result:
        """Once by each way, then by `reclaim`; quick, a quarter of that, with thread caches."""
        heap_bytes = _QUICK_BYTES if quick else _BYTES
        objects = 2 * heap_bytes // _MOST
        # The hooks take as long again, and what they free the module frees, too.
        ways = (PLAIN, MODULE) if quick and MODULE.works_here() else WAYS
        looks: tuple[Callable[[Way], dict[str, Any]], ...] = (
            lambda way: _of_a_heap(way, objects, seed),
            lambda way: _of_redis(way, objects),
        )
        runs: dict[str, dict[str, dict[str, Any]]] = {}
        for program, look in zip(PROGRAMS, looks, strict=True):
            for caches, malloc_conf in CACHES.items():
                if quick and malloc_conf:
                    continue
                name = f"{program}, {caches}"
                runs[name] = {}
                for way in ways:
                    if way.works_here():
                        progress(f"{name}, {way.name}")
                        runs[name][way.name] = look(way.attended().with_malloc_conf(malloc_conf))
        return {
            "heap_bytes": heap_bytes,
            "kept_one_in": _KEEP_ONE_IN,
            "runs": runs,
        }

    def rows(self, result: Result) -> Sequence[Row]:
        """See `Part`."""
        return left.rows(result)

    def savings(self, result: Result) -> Sequence[Saving]:
        """Of each by jemalloc alone."""
        size = size_text(result["heap_bytes"])
        return [
            Saving(
                name=f"mass delete of {size}, {name}",
                tables=run["tables"],
                empty=run["empty"],
                freed=run.get("reclaimed"),
                control=False,
            )
            for name, ways in result["runs"].items()
            for run in [ways[PLAIN.name]]
        ]


def _of_a_heap(way: Way, objects: int, seed: int) -> dict[str, Any]:
    with started(way, jemalloc()) as process:
        begin = process.tables()
        process.tell("objects", objects, _MOST, seed, True)
        peak = process.tables()
        process.tell("release", _KEEP_ONE_IN)
        process.tell("purge")
        time.sleep(_GRACE)
        found = left.found(process.pid, begin, peak)
        _, damaged = process.tell("check")
    return _intact(found, damaged)


def _of_redis(way: Way, objects: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="pgtable-cleanup.") as directory,
        redis.running(Path(directory), way.environment([])) as server,
    ):
        begin = server.tables()
        server.run(_FILL, objects, _MOST)
        peak = server.tables()
        server.run(_DELETE, objects, _KEEP_ONE_IN)
        server.ask("memory", "purge")
        time.sleep(_GRACE)
        found = left.found(server.pid, begin, peak)
        damaged = int(server.run(_DAMAGED, objects, _MOST, _KEEP_ONE_IN))
    return _intact(found, damaged)


def _intact(found: dict[str, Any], damaged: int) -> dict[str, Any]:
    if damaged:
        raise ExperimentError(f"{damaged} objects are damaged")
    return found


PART: Part = MassDelete()
