# SPDX-License-Identifier: MIT
"""Empty page tables that versions of mimalloc leave, and what an option of its own changes."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from allocator_shim.preloading import library_path
from experiments.allocators import empties
from experiments.allocators.methods import MODULE, NONE
from experiments.allocators.process import Process
from experiments.part import ExperimentError, Measured, Part, Row, Saving, Scale
from experiments.summary import size_text

_BYTES = 256 << 20
_QUICK_BYTES = 32 << 20
_METHODS = (NONE, MODULE)
# mimalloc purges by 64 KiB, or by this size.  Without a unit it would be in bytes.
_BY_UNITS = {"MIMALLOC_MINIMAL_PURGE_SIZE": "2MiB"}
_PURGED_BY_UNITS = "3.4, purges of 2 MiB"
_WHEEL = "cmeel-mimalloc"
_GIVE_BACK = "libc.give_back"


def wheel_library() -> str:
    """Return the path of mimalloc 3.4, which the environment of the experiments has.

    Raises ExperimentError where it is not installed.
    """
    try:
        return str(distribution(_WHEEL).locate_file("cmeel.prefix/lib/libmimalloc.so.3"))
    except PackageNotFoundError as error:
        raise ExperimentError(f"{_WHEEL} is not installed: make build installs it") from error


def _rest_and_collect(process: Process) -> None:
    """Wait, and have mimalloc collect again: version 2 gives back what it has cached by then."""
    empties.rest(process)
    process.tell(_GIVE_BACK)
    empties.rest(process)


class Mimalloc(Part):
    name = "allocators/mimalloc"
    description = "empty page tables of heaps of mimalloc, 1 object in 100,000 kept"

    def measure(self, scale: Scale) -> Measured:
        """Run each version alone and under the library, then reclaim what is left."""
        heap_bytes = scale.pick(_BYTES, _QUICK_BYTES)
        two, three = library_path("libmimalloc.so.2", "libmimalloc2.0"), wheel_library()
        heaps: dict[str, tuple[str, dict[str, str]]] = {
            "2.0": (two, {}),
            "3.4": (three, {}),
            _PURGED_BY_UNITS: (three, _BY_UNITS),
        }
        runs: dict[str, dict[str, Any]] = {}
        for name, (library, variables) in heaps.items():
            runs[name] = {}
            for method in (NONE,) if scale.quick else _METHODS:
                if not method.works_here():
                    continue
                scale.progress(f"{name}, {method.name}")
                runs[name][method.name] = empties.of_heap(
                    replace(method.attended(), variables=variables),
                    [library],
                    heap_bytes,
                    scale.seed,
                    order=_GIVE_BACK,
                    settle=_rest_and_collect,
                )
        return {"heap_bytes": heap_bytes, "runs": runs}

    def rows(self, measured: Measured) -> Sequence[Row]:
        return empties.rows(measured)

    def savings(self, measured: Measured) -> Sequence[Saving]:
        """Return what each version alone can save: nothing where it purges by whole units."""
        return [
            Saving(
                name=f"heap of {size_text(measured['heap_bytes'])}, mimalloc {name}",
                tables=by_method[NONE.name]["tables"],
                empty=by_method[NONE.name]["empty"],
                freed=by_method[NONE.name]["reclaimed"],
                control=name == _PURGED_BY_UNITS,
            )
            for name, by_method in measured["runs"].items()
        ]


PART = Mimalloc()
