# SPDX-License-Identifier: MIT
"""Who frees an emptied table, and when: at each release, later for many, or the kernel itself."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cleanup
from cleanup import _uapi, probe
from cleanup.proc import settled_pagetables_bytes
from experiments.cost import _faults, meter
from experiments.cost.contenders import ONE_TABLE_HOLD_NS
from experiments.designs import _release
from experiments.measure import ExperimentError, Progress
from experiments.sparse import PAGE, UNIT, SparseMapping, sparse_mapping
from experiments.suite.part import Guest, Part, Result, Row
from experiments.suite.spread import rotated, spread, text

_UNITS = 2048
_RUNS = 5


@dataclass(frozen=True, slots=True)
class Design:
    """`every` so many releases of `block` bytes the module is called; 0: it is not."""

    label: str
    every: int = 0
    block: int = PAGE
    max_hold_ns: int = 0
    by_kernel: bool = False


DESIGNS: Mapping[str, Design] = {
    "nothing": Design("nothing"),
    "eager": Design("explicit call after each release", every=1),
    "deferred": Design("explicit call after each 64", every=64),
    "once": Design("explicit call after all", every=_UNITS),
    "flush_each": Design(
        "after all, a flush for each table", every=_UNITS, max_hold_ns=ONE_TABLE_HOLD_NS
    ),
    "whole": Design("releases of whole 2 MiB, nothing else", block=UNIT, by_kernel=True),
}


class When:
    """See `Part`."""

    name = "when"
    description = (
        f"instructions of each of {_UNITS} releases, a page in use in each 2 MiB before, with the "
        "tables freed by then; of a fault afterwards"
    )
    guest = Guest(icount=True, cpus=1, memory="4G")

    def measure(self, *, quick: bool, seed: int, progress: Progress) -> Result:
        """A warm-up run, then those that count, each beginning with another design."""
        runs = 1 if quick else _RUNS
        kernel_frees = probe.dontneed_frees_tables()
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in DESIGNS}
        device = _uapi.open_device()
        try:
            with (
                meter.running() as counter,
                sparse_mapping(_UNITS * UNIT, seed=seed) as mapping,
            ):
                for run in range(runs + 1):
                    progress("warming up" if run == 0 else f"run {run} of {runs}")
                    for name in rotated(list(DESIGNS), run):
                        frees = DESIGNS[name].every > 0 or (
                            DESIGNS[name].by_kernel and kernel_frees
                        )
                        done = _round(DESIGNS[name], mapping, device, counter, frees=frees)
                        if run:
                            rounds[name].append(done)
        finally:
            os.close(device)
        return {
            "units": _UNITS,
            "runs": runs,
            "designs": {
                name: {
                    "label": DESIGNS[name].label,
                    "left_bytes": int(done[0]["left_bytes"]),
                    "calls": int(done[0]["calls"]),
                    "release_instructions": spread([one["release"] for one in done]),
                    "fault_instructions": spread([one["fault"] for one in done]),
                    "longest_hold_instructions": spread([one["hold"] for one in done]),
                }
                for name, done in rounds.items()
            },
        }

    def rows(self, result: Result) -> Sequence[Row]:
        """What each leaves, and takes."""
        return [
            (
                one["label"],
                f"{one['left_bytes'] >> 10:,} kB left; a release "
                f"{text(one['release_instructions'], 'instructions')}; the next fault "
                f"{text(one['fault_instructions'], 'instructions')}"
                + (
                    f"; longest hold {text(one['longest_hold_instructions'], 'instructions')}"
                    if one["calls"]
                    else ""
                ),
            )
            for one in result["designs"].values()
        ]


def _round(
    design: Design, mapping: SparseMapping, device: int, counter: meter.Meter, *, frees: bool
) -> dict[str, float]:
    """Touch, release with what the design does, and touch again; ExperimentError."""
    view = mapping.view
    mapping.zap(0, mapping.units)
    cleanup.reclaim(view)
    before = cleanup.page_tables().vmpte_bytes
    _faults.touch(view, stride=UNIT)
    done: list[tuple[int, int, int]] = []
    cost = counter.net(
        lambda: done.append(
            _release.release(
                view,
                block=design.block,
                every=design.every,
                fd=device,
                max_hold_ns=design.max_hold_ns,
            )
        )
    )
    calls, freed, hold = done[0]
    settled_pagetables_bytes()
    left = cleanup.page_tables().vmpte_bytes - before
    upper = (_UNITS // 512 + 2) * PAGE
    if design.every and freed != _UNITS:
        raise ExperimentError(f"{design.label}: {freed} tables were freed, not {_UNITS}")
    if not (left <= upper if frees else left >= _UNITS * PAGE):
        raise ExperimentError(f"{design.label}: {left} bytes of page tables are left")
    fault = _faults.touch(view, stride=UNIT) / _UNITS
    return {
        "left_bytes": left,
        "calls": calls,
        "release": cost.instructions / _UNITS,
        "fault": fault,
        "hold": hold,
    }


PART: Part = When()
