# SPDX-License-Identifier: MIT
"""A comparison of when emptied tables are freed: at each release, later, or by the kernel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cleanup
from cleanup import device, probe
from cleanup.proc import settled_pagetables_bytes
from experiments import part
from experiments.cost import _faults, meter
from experiments.cost.methods import ONE_TABLE_HOLD_NS
from experiments.cost.turns import by_turns, cpu_ns
from experiments.sparse import PAGE, UNIT, SparseMapping, sparse_mapping
from experiments.spread import spread, text

_UNITS = 2048
_QUICK_UNITS = 128
# This is more than there are releases: the module is called once, after the last.
_AFTER_ALL = 1 << 30
_RUNS = 5


@dataclass(frozen=True, slots=True)
class ReleaseMethod:
    """Calls that release `block` bytes; the module runs after each `every` of them (0: never)."""

    label: str
    every: int = 0
    block: int = PAGE
    max_hold_ns: int = 0
    by_kernel: bool = False


_METHODS: Mapping[str, ReleaseMethod] = {
    "none": ReleaseMethod("nothing"),
    "module_each": ReleaseMethod("explicit call after each release", every=1),
    "module_each_64": ReleaseMethod("explicit call after each 64", every=64),
    "module_once": ReleaseMethod("explicit call after all", every=_AFTER_ALL),
    "module_flush_each": ReleaseMethod(
        "after all, a flush for each table", every=_AFTER_ALL, max_hold_ns=ONE_TABLE_HOLD_NS
    ),
    "zap": ReleaseMethod("releases of whole 2 MiB, nothing else", block=UNIT, by_kernel=True),
}


class When(part.Part):
    name = "designs/when"
    description = (
        "instructions of each release, a page in use in each 2 MiB before, with the tables freed "
        "by then; of a fault afterwards"
    )
    needs = part.COUNTING

    def measure(self, scale: part.Scale) -> part.Measured:
        """Warm up, then measure all methods in rounds; each round begins with another method."""
        runs, units = scale.runs(_RUNS), scale.pick(_UNITS, _QUICK_UNITS)
        kernel_frees = probe.dontneed_frees_tables()
        with (
            device.opened() as opened,
            meter.running() as counter,
            sparse_mapping(units * UNIT, seed=scale.seed) as mapping,
        ):

            def run(name: str, _number: int) -> dict[str, float]:
                method = _METHODS[name]
                frees = method.every > 0 or (method.by_kernel and kernel_frees)
                return _round(method, mapping, opened.fd, counter, frees=frees)

            rounds = by_turns(_METHODS, runs, run, progress=scale.progress, warm_up=True)
        return {
            "units": units,
            "runs": runs,
            "methods": {
                name: {
                    "label": _METHODS[name].label,
                    "left_bytes": int(done[0]["left_bytes"]),
                    "calls": int(done[0]["calls"]),
                    "release_instructions": spread([one["release"] for one in done]),
                    "fault_instructions": spread([one["fault"] for one in done]),
                    "longest_hold_instructions": spread([one["hold"] for one in done]),
                }
                for name, done in rounds.items()
            },
        }

    def title(self, measured: part.Measured) -> str:
        return self.description.replace("each release", f"each of {measured['units']} releases")

    def rows(self, measured: part.Measured) -> Sequence[part.Row]:
        """Return the page tables that each method leaves, and the instructions that it takes."""
        return [(one["label"], _shown(one)) for one in measured["methods"].values()]

    def draw(self, documents: part.Documents) -> part.Pictures:
        """Draw the cost of a release; the labels say how many kB of tables are left."""
        from experiments.bars import bars_of  # noqa: PLC0415 -- a guest draws nothing

        measured = [(one["measured"] or {})["methods"] for one in documents]

        def label(name: str) -> str:
            left = (f"{one[name]['left_bytes'] >> 10:,} kB left" for one in measured)
            return f"{_METHODS[name].label}\n({', '.join(left)})"

        return bars_of(
            documents,
            {name: label(name) for name in _METHODS},
            lambda measured, name: measured["methods"][name]["release_instructions"],
            label="guest instructions of each release, until RCU has freed the table:\n"
            "median, least to most",
        )


def _shown(one: part.Measured) -> str:
    release, fault, hold = (
        text(one[f"{name}_instructions"], "instructions")
        for name in ("release", "fault", "longest_hold")
    )
    said = f"{one['left_bytes'] >> 10:,} kB left; a release {release}; the next fault {fault}"
    return f"{said}; longest hold {hold}" if one["calls"] else said


def _round(
    method: ReleaseMethod, mapping: SparseMapping, fd: int, counter: meter.Meter, *, frees: bool
) -> dict[str, float]:
    """Measure releases with a method, and the faults after them.  Raises ExperimentError."""
    view, units = mapping.view, mapping.units
    mapping.zap(0, units)
    cleanup.reclaim(view)
    before = cleanup.page_tables().vmpte_bytes
    _faults.touch(view, stride=UNIT)
    done = [(0, 0, 0)]

    def release() -> None:
        if method.every:
            done[0] = _faults.release_and_free(
                view,
                span=method.block,
                every=min(method.every, units),
                fd=fd,
                max_hold_ns=method.max_hold_ns,
            )
        else:
            _faults.release(view, stride=UNIT, span=method.block)

    cost = counter.net(release)
    calls, freed, hold = done[0]
    settled_pagetables_bytes()
    left = cleanup.page_tables().vmpte_bytes - before
    upper = (units // 512 + 2) * PAGE
    if method.every and freed != units:
        raise part.ExperimentError(f"{method.label}: {freed} tables were freed, not {units}")
    if not (left <= upper if frees else left >= units * PAGE):
        raise part.ExperimentError(f"{method.label}: {left} bytes of page tables are left")
    fault = cpu_ns(lambda memory: _faults.touch(memory, stride=UNIT), [view]) / units
    return {
        "left_bytes": left,
        "calls": calls,
        "release": cost.instructions / units,
        "fault": fault,
        "hold": hold,
    }


PART = When()
