# SPDX-License-Identifier: MIT
"""Empty page tables after nearly all objects are freed at once, thread caches on and off."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import part
from experiments.allocators import empties, redis
from experiments.allocators.methods import HOOKS, MODULE, NONE, ProgramMethod, jemalloc
from experiments.summary import size_text

_BYTES = 512 << 20
_QUICK_BYTES = 32 << 20
_KEEP_ONE_IN = 100_000
# jemalloc's settings with thread caches and without.
CACHES: Mapping[str, Mapping[str, str]] = {
    "with thread caches": {},
    "without": {"tcache": "false"},
}
_METHODS = (NONE, MODULE, HOOKS)

# These scripts run in the redis server, to save time.  A value has up to `most` bytes.
_VALUE = "local function value(i, most) return string.rep('x', i * 7919 % most + 1) end "
_FILL = _VALUE + (
    "for i = 1, ARGV[1] do redis.call('SET', 'key:' .. i, value(i, ARGV[2])) end return 0"
)
_DELETE = "for i = 1, ARGV[1] do if i % ARGV[2] ~= 0 then redis.call('DEL', 'key:' .. i) end end"
_DAMAGED = _VALUE + (
    "local n = 0 for i = ARGV[3], ARGV[1], ARGV[3] do "
    "if redis.call('GET', 'key:' .. i) ~= value(i, ARGV[2]) then n = n + 1 end end return n"
)


class MassDelete(part.Part):
    name = "allocators/mass-delete"
    description = (
        "empty page tables after all but 1 object in 100,000 are freed at once and jemalloc purged"
    )

    def measure(self, scale: part.Scale) -> part.Measured:
        """Run each program once with each method, and then reclaim the tables that are left."""
        heap_bytes = scale.pick(_BYTES, _QUICK_BYTES)
        # A quick measurement has no time for the hooks, which free the same tables as the module.
        wanted = (NONE, MODULE) if scale.quick and MODULE.works_here() else _METHODS
        methods = [method for method in wanted if method.works_here()]
        runs: dict[str, dict[str, dict[str, Any]]] = {}
        for program, look in PROGRAMS.items():
            for caches, malloc_conf in CACHES.items():
                if scale.quick and malloc_conf:
                    continue
                name = f"{program}, {caches}"
                runs[name] = {}
                for method in methods:
                    scale.progress(f"{name}, {method.name}")
                    by = method.attended().with_malloc_conf(malloc_conf)
                    runs[name][method.name] = look(by, heap_bytes, scale)
        return {
            "heap_bytes": heap_bytes,
            "kept_one_in": _KEEP_ONE_IN,
            "runs": runs,
        }

    def rows(self, measured: part.Measured) -> Sequence[part.Row]:
        return empties.rows(measured)

    def draw(self, documents: part.Documents) -> part.Pictures:
        label = "empty page tables left after a mass delete (tables of 4 KiB)"
        names = [f"{program}, {caches}" for program in PROGRAMS for caches in CACHES]
        return empties.draw(documents, names, [method.name for method in _METHODS], label)

    def savings(self, measured: part.Measured) -> Sequence[part.Saving]:
        """Return what can be saved in each program with jemalloc alone."""
        size = size_text(measured["heap_bytes"])
        return [
            part.Saving(
                name=f"mass delete of {size}, {name}",
                tables=run["tables"],
                empty=run["empty"],
                freed=run.get("reclaimed"),
                control=False,
            )
            for name, methods in measured["runs"].items()
            for run in [methods[NONE.name]]
        ]


def _of_a_heap(method: ProgramMethod, heap_bytes: int, scale: part.Scale) -> dict[str, Any]:
    return empties.of_heap(method, jemalloc(), heap_bytes, scale.seed, kept=(_KEEP_ONE_IN,))


def _of_redis(method: ProgramMethod, heap_bytes: int, scale: part.Scale) -> dict[str, Any]:
    # Filling the server takes long on an emulator: a quick measurement makes fewer objects.
    objects = empties.objects_in(heap_bytes) // scale.pick(1, 4)
    with redis.run_by(method) as server:
        begin = server.tables()
        server.run(_FILL, objects, empties.MOST)
        peak = server.tables()
        server.run(_DELETE, objects, _KEEP_ONE_IN)
        server.ask("memory", "purge")
        time.sleep(empties.GRACE)
        found = empties.found_in(server.pid, begin, peak)
        damaged = int(server.run(_DAMAGED, objects, empties.MOST, _KEEP_ONE_IN))
    if damaged:
        raise part.ExperimentError(f"{damaged} objects are damaged")
    return found


PROGRAMS = {"a heap": _of_a_heap, "redis-server": _of_redis}
PART = MassDelete()
