# SPDX-License-Identifier: MIT
"""Interrupts that each method of freeing PTE tables sends to another CPU of the same process."""

import os
from collections.abc import Callable, Sequence

from cleanup import _uapi, probe
from cleanup.proc import tlb_shootdowns
from experiments.cost.methods import METHODS, QUICK_TABLES, TABLES, run_round
from experiments.part import (
    Claim,
    Documents,
    ExperimentError,
    Measured,
    Part,
    Pictures,
    Row,
    Scale,
    at_least,
)
from experiments.spread import rotated, spread, text
from experiments.stage import second_thread

_RUNS = 3
_TIMES_FEWER = 50
# Time is not to be what ends a batch where the guest's CPUs wait for the host's.
_FULL_BATCH_HOLD_NS = 10**9


class Shootdowns(Part):
    name = "reclaim-cost/shootdowns"
    description = (
        "TLB shootdown interrupts over empty PTE tables, while a second thread keeps another CPU "
        "busy"
    )

    def measure(self, scale: Scale) -> Measured:
        """Run several times, each beginning with another method."""
        if (os.cpu_count() or 1) < self.needs.cpus:
            raise ExperimentError("one CPU has nobody to interrupt: leave out --host")
        names = list(METHODS)
        tables = scale.pick(TABLES, QUICK_TABLES)
        sent: dict[str, list[int]] = {name: [] for name in names}
        runs = scale.runs(_RUNS)
        kernel_frees = probe.dontneed_frees_tables()
        device = _uapi.open_device()
        # The page tables of a thread's stack stay for the next thread.
        with second_thread():
            pass
        try:
            for run in range(runs):
                scale.progress(f"run {run + 1} of {runs}")
                for name in rotated(names, run):
                    done = run_round(
                        name,
                        device=device,
                        seed=scale.seed + run,
                        tables=tables,
                        kernel_frees=kernel_frees,
                        measure=_shootdowns,
                        max_hold_ns=_FULL_BATCH_HOLD_NS,
                    )
                    sent[name].append(done.measured)
        finally:
            os.close(device)
        return {
            "tables": tables,
            "runs": runs,
            "methods": {
                name: {"label": METHODS[name].label, "shootdowns": spread(sent[name])}
                for name in names
            },
        }

    def title(self, measured: Measured) -> str:
        return self.description.replace("over empty", f"over {measured['tables']} empty")

    def claims(self, measured: Measured) -> list[Claim]:
        each, batched = (
            measured["methods"][name]["shootdowns"]["median"]
            for name in ("module_flush_each", "module")
        )
        return [
            at_least(
                "times fewer shootdowns by the module's batches than by a flush a table",
                round(each / max(1, batched), 1),
                _TIMES_FEWER,
            )
        ]

    def rows(self, measured: Measured) -> Sequence[Row]:
        """Return the interrupts in all."""
        return [
            (figures["label"], text(figures["shootdowns"], "sent"))
            for figures in measured["methods"].values()
        ]

    def draw(self, documents: Documents) -> Pictures:
        from experiments.bars import bars_of  # noqa: PLC0415 -- a guest draws nothing

        return bars_of(
            documents,
            {name: method.label for name, method in METHODS.items()},
            lambda measured, name: measured["methods"][name]["shootdowns"],
            label="TLB shootdown interrupts for all tables: median, least to most",
        )


def _shootdowns(act: Callable[[], None]) -> int:
    with second_thread():
        before = tlb_shootdowns()
        act()
        return tlb_shootdowns() - before


PART = Shootdowns()
