# SPDX-License-Identifier: MIT
"""Empty page tables after nearly all objects are freed at once, thread caches on and off."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.allocators import empties, redis
from experiments.allocators.methods import HOOKS, MODULE, NONE, ProgramMethod, jemalloc
from experiments.allocators.process import started
from experiments.part import (
    Documents,
    ExperimentError,
    Measured,
    Part,
    Pictures,
    Row,
    Saving,
    Scale,
)
from experiments.summary import size_text

_BYTES = 512 << 20
_QUICK_BYTES = 32 << 20
_MOST = 1008
_KEEP_ONE_IN = 100_000
_GRACE = 2
# By jemalloc's conf.
CACHES: Mapping[str, Mapping[str, str]] = {
    "with thread caches": {},
    "without": {"tcache": "false"},
}
PROGRAMS = ("a heap", "redis-server")
METHODS = (NONE, MODULE, HOOKS)

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


class MassDelete(Part):
    name = "allocators/mass-delete"
    description = (
        "empty page tables after all but 1 object in 100,000 are freed at once and jemalloc purged"
    )

    def measure(self, scale: Scale) -> Measured:
        """Run once by each method, then by `reclaim`; quick, a smaller heap, with thread caches."""
        heap_bytes = scale.pick(_BYTES, _QUICK_BYTES)
        objects = 2 * heap_bytes // _MOST
        # The hooks take as long again, and what they free the module frees, too.
        methods = (NONE, MODULE) if scale.quick and MODULE.works_here() else METHODS
        looks: tuple[Callable[[ProgramMethod], dict[str, Any]], ...] = (
            lambda method: _of_a_heap(method, objects, scale.seed),
            # Lua fills it, which takes an emulator long.
            lambda method: _of_redis(method, objects // scale.pick(1, 4)),
        )
        runs: dict[str, dict[str, dict[str, Any]]] = {}
        for program, look in zip(PROGRAMS, looks, strict=True):
            for caches, malloc_conf in CACHES.items():
                if scale.quick and malloc_conf:
                    continue
                name = f"{program}, {caches}"
                runs[name] = {}
                for method in methods:
                    if method.works_here():
                        scale.progress(f"{name}, {method.name}")
                        runs[name][method.name] = look(
                            method.attended().with_malloc_conf(malloc_conf)
                        )
        return {
            "heap_bytes": heap_bytes,
            "kept_one_in": _KEEP_ONE_IN,
            "runs": runs,
        }

    def rows(self, measured: Measured) -> Sequence[Row]:
        return empties.rows(measured)

    def draw(self, documents: Documents) -> Pictures:
        label = "empty page tables left after a mass delete (tables of 4 KiB)"
        names = [f"{program}, {caches}" for program in PROGRAMS for caches in CACHES]
        return empties.draw(documents, names, [method.name for method in METHODS], label)

    def savings(self, measured: Measured) -> Sequence[Saving]:
        """Return those of each by jemalloc alone."""
        size = size_text(measured["heap_bytes"])
        return [
            Saving(
                name=f"mass delete of {size}, {name}",
                tables=run["tables"],
                empty=run["empty"],
                freed=run.get("reclaimed"),
                control=False,
            )
            for name, methods in measured["runs"].items()
            for run in [methods[NONE.name]]
        ]


def _of_a_heap(method: ProgramMethod, objects: int, seed: int) -> dict[str, Any]:
    with started(method, jemalloc()) as process:
        begin = process.tables()
        process.tell("objects", objects, _MOST, seed, True)
        peak = process.tables()
        process.tell("release", _KEEP_ONE_IN)
        process.tell("purge")
        time.sleep(_GRACE)
        found = empties.found(process.pid, begin, peak)
        _, damaged = process.tell("check")
    return _intact(found, damaged)


def _of_redis(method: ProgramMethod, objects: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="pgtable-cleanup.") as directory,
        redis.running(Path(directory), method.environment([])) as server,
    ):
        begin = server.tables()
        server.run(_FILL, objects, _MOST)
        peak = server.tables()
        server.run(_DELETE, objects, _KEEP_ONE_IN)
        server.ask("memory", "purge")
        time.sleep(_GRACE)
        found = empties.found(server.pid, begin, peak)
        damaged = int(server.run(_DAMAGED, objects, _MOST, _KEEP_ONE_IN))
    return _intact(found, damaged)


def _intact(found: dict[str, Any], damaged: int) -> dict[str, Any]:
    if damaged:
        raise ExperimentError(f"{damaged} objects are damaged")
    return found


PART = MassDelete()
