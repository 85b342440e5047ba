# SPDX-License-Identifier: MIT
"""Empty page tables that jemalloc leaves behind, and how many of them each method frees."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments import part
from experiments.allocators import empties, methods
from experiments.allocators.methods import HOOKS, HOOKS_MODULE, MODULE, NONE, ProgramMethod
from experiments.allocators.process import Process

_BYTES = 2 << 30
_QUICK_BYTES = 32 << 20
_FREED_LEAST = 0.95
# jemalloc's default decay spreads its purges over ten seconds.
_DECAY_SECONDS = 12

# Without the thread, the last drain waits for the program's next release.
THREADLESS = replace(MODULE, name=f"{MODULE.name}, no thread", conf={"thread": "false"})
_METHODS = (NONE, methods.RETAIN_FALSE, MODULE, HOOKS, HOOKS_MODULE)
# These methods are to free nearly all empty tables; retain:false is there for comparison.
_CLAIMED = (MODULE, HOOKS, HOOKS_MODULE)


class Tables(part.Part):
    name = "allocators/tables"
    description = "empty page tables of a heap of which jemalloc keeps 1 object in 100,000"

    def measure(self, scale: part.Scale) -> part.Measured:
        """Run each method with the library's thread, once by a purge and once by jemalloc's decay.

        The decay is also run without that thread. A quick measurement has a smaller heap, only the
        purge, and few methods: on an emulator the start of each program takes longer than its work.
        """
        heap_bytes = scale.pick(_BYTES, _QUICK_BYTES)
        wanted = {"purge": _METHODS, "decay": (*_METHODS, THREADLESS)}
        if scale.quick:
            wanted = {"purge": (NONE, MODULE, HOOKS)}
        runs: dict[str, dict[str, Any]] = {}
        for release, each in wanted.items():
            runs[release] = {}
            for method in each:
                if method.works_here():
                    scale.progress(f"{release}, {method.name}")
                    runs[release][method.name] = _left(
                        release, method.attended(), heap_bytes, scale.seed
                    )
        return {
            "heap_bytes": heap_bytes,
            "kept_one_in": empties.KEPT[-1],
            "runs": runs,
        }

    def claims(self, measured: part.Measured) -> list[part.Claim]:
        runs = measured["runs"].items()
        return [claim for release, by_method in runs for claim in _claims(release, by_method)]

    def rows(self, measured: part.Measured) -> Sequence[part.Row]:
        return empties.rows(measured)

    def draw(self, documents: part.Documents) -> part.Pictures:
        label = "empty page tables left in the heap (tables of 4 KiB)"
        names = [method.name for method in (*_METHODS, THREADLESS)]
        return empties.draw(documents, ("purge", "decay"), names, label)


def _left(release: str, method: ProgramMethod, heap_bytes: int, seed: int) -> dict[str, Any]:
    def decay(process: Process) -> None:
        """Let the program work on a small heap: jemalloc's decay goes on only when it is called."""
        process.tell("work", _DECAY_SECONDS + empties.GRACE, 1000, empties.MOST, seed)
        if process.tell("dirty") > 1000:
            raise part.ExperimentError(
                "jemalloc has not given all back: the decay takes longer here"
            )

    order, settle = ("jemalloc.purge", empties.rest) if release == "purge" else (None, decay)
    return empties.of_heap(
        method, methods.jemalloc(), heap_bytes, seed, order=order, settle=settle, reclaim=False
    )


def _claims(release: str, runs: Mapping[str, Mapping[str, int]]) -> list[part.Claim]:
    alone = runs[NONE.name]["empty"]
    if not alone:
        return []
    return [
        part.at_least(
            f"share of the empty tables freed within {empties.GRACE} s, {release}, {method.name}",
            1 - runs[method.name]["empty"] / alone,
            _FREED_LEAST,
        )
        for method in _CLAIMED
        if method.name in runs
    ]


PART = Tables()
