# SPDX-License-Identifier: MIT
"""Interrupts that each method of freeing PTE tables sends to another CPU of the same process."""

import os
from collections.abc import Callable, Sequence

from cleanup.proc import tlb_shootdowns
from experiments import part
from experiments.cost.methods import METHODS, run_all
from experiments.spread import spread, text
from experiments.stage import second_thread

_RUNS = 3
_TIMES_FEWER = 50
# No hold of the lock lasts this long, so each batch of tables ends because it is full.
_FULL_BATCH_HOLD_NS = 10**9


class Shootdowns(part.Part):
    name = "reclaim-cost/shootdowns"
    description = (
        "TLB shootdown interrupts over empty PTE tables, while a second thread keeps another CPU "
        "busy"
    )

    def measure(self, scale: part.Scale) -> part.Measured:
        """Run all methods several times, each time beginning with another method."""
        if (os.cpu_count() or 1) < self.needs.cpus:
            raise part.ExperimentError("one CPU has nobody to interrupt: leave out --host")
        # A thread's stack needs page tables. Make them now, so that no run finds more in VmPTE.
        with second_thread():
            pass
        runs = scale.runs(_RUNS)
        tables, done = run_all(scale, runs, _shootdowns, max_hold_ns=_FULL_BATCH_HOLD_NS)
        return {
            "tables": tables,
            "runs": runs,
            "methods": {
                name: {
                    "label": METHODS[name].label,
                    "shootdowns": spread([one.measured for one in rounds]),
                }
                for name, rounds in done.items()
            },
        }

    def title(self, measured: part.Measured) -> str:
        return self.description.replace("over empty", f"over {measured['tables']} empty")

    def claims(self, measured: part.Measured) -> list[part.Claim]:
        each, batched = (
            measured["methods"][name]["shootdowns"]["median"]
            for name in ("module_flush_each", "module")
        )
        return [
            part.at_least(
                "times fewer shootdowns by the module's batches than by a flush a table",
                round(each / max(1, batched), 1),
                _TIMES_FEWER,
            )
        ]

    def rows(self, measured: part.Measured) -> Sequence[part.Row]:
        """Return how many interrupts each method sent."""
        return [
            (figures["label"], text(figures["shootdowns"], "sent"))
            for figures in measured["methods"].values()
        ]

    def draw(self, documents: part.Documents) -> part.Pictures:
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
