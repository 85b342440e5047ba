# SPDX-License-Identifier: MIT
"""Interrupts that each way to free PTE tables sends to another CPU of the same process."""

import os
from collections.abc import Callable, Sequence

from cleanup import _uapi, probe
from cleanup.proc import tlb_shootdowns
from experiments.cost.contenders import CONTENDERS, TABLES, run_round
from experiments.measure import ExperimentError, Progress
from experiments.suite.part import Guest, Result, Row, at_least
from experiments.suite.spread import rotated, spread, text
from experiments.target import second_thread

_RUNS = 3
_QUICK_RUNS = 1
_TIMES_FEWER = 50
# Time is not to be what ends a batch where the guest's CPUs wait for the host's.
_FULL_BATCH_HOLD_NS = 10**9


class _Shootdowns:
    name = "shootdowns"
    description = (
        f"TLB shootdown interrupts over {TABLES} empty PTE tables, while a second thread keeps "
        "another CPU busy"
    )
    guest = Guest(icount=False, cpus=2)

    def measure(self, *, quick: bool, seed: int, progress: Progress) -> Result:
        """Runs that each begin with another contender."""
        if (os.cpu_count() or 1) < self.guest.cpus:
            raise ExperimentError("one CPU has nobody to interrupt: leave out --host")
        names = list(CONTENDERS)
        sent: dict[str, list[int]] = {name: [] for name in names}
        runs = _QUICK_RUNS if quick else _RUNS
        kernel_frees = probe.dontneed_frees_tables()
        device = _uapi.open_device()
        # The page tables of a thread's stack stay for the next thread.
        with second_thread():
            pass
        try:
            for run in range(runs):
                progress(f"run {run + 1} of {runs}")
                for name in rotated(names, run):
                    done = run_round(
                        name,
                        device=device,
                        seed=seed + run,
                        kernel_frees=kernel_frees,
                        measure=_shootdowns,
                        max_hold_ns=_FULL_BATCH_HOLD_NS,
                    )
                    sent[name].append(done.measured)
        finally:
            os.close(device)
        shootdowns = {name: spread(counts) for name, counts in sent.items()}
        return {
            "tables": TABLES,
            "runs": runs,
            "contenders": {
                name: {"label": CONTENDERS[name].label, "shootdowns": shootdowns[name]}
                for name in names
            },
            "claims": [
                at_least(
                    "times fewer shootdowns by the module's batches than by a flush a table",
                    round(
                        shootdowns["module_flush_each"]["median"]
                        / max(1, shootdowns["module"]["median"]),
                        1,
                    ),
                    _TIMES_FEWER,
                )
            ],
        }

    def rows(self, result: Result) -> Sequence[Row]:
        """Interrupts in all."""
        return [
            (figures["label"], text(figures["shootdowns"], "sent"))
            for figures in result["contenders"].values()
        ]


def _shootdowns(act: Callable[[], None]) -> int:
    with second_thread():
        before = tlb_shootdowns()
        act()
        return tlb_shootdowns() - before


PART = _Shootdowns()
