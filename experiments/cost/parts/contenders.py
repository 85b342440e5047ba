# SPDX-License-Identifier: MIT
"""Instructions of each way to free PTE tables, the work of RCU's callbacks included."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cleanup
from cleanup import _uapi, probe
from cleanup.proc import pagetables_bytes
from experiments.cost import meter
from experiments.cost.contenders import (
    CONTENDERS,
    LIVE_TABLES,
    TABLES,
    Round,
    run_round,
)
from experiments.measure import ExperimentError, Progress
from experiments.sparse import PAGE
from experiments.suite.part import Claim, Guest, Result, Row, at_most
from experiments.suite.spread import rotated, spread, text

_RUNS = 5
_QUICK_RUNS = 1
# Of what PT_RECLAIM takes for the same tables.
_LARGEST_SHARE = 0.6
# Tables that the rest of the guest may get or lose meanwhile.
_PAGETABLES_SLACK = 32 * PAGE


class _Contenders:
    name = "contenders"
    description = (
        f"instructions for each of {TABLES} empty PTE tables, from the call until an RCU barrier "
        "is through"
    )
    guest = Guest(icount=True, cpus=1)

    def measure(self, *, quick: bool, seed: int, progress: Progress) -> Result:
        """A warm-up run, then those that count, each beginning with another contender."""
        names = list(CONTENDERS)
        rounds: dict[str, list[Round[meter.Cost]]] = {name: [] for name in names}
        runs = _QUICK_RUNS if quick else _RUNS
        kernel_frees = probe.dontneed_frees_tables()
        device = _uapi.open_device()
        try:
            with meter.running() as counter:
                for run in range(runs + 1):
                    progress("warming up" if run == 0 else f"run {run} of {runs}")
                    for name in rotated(names, run):
                        done = run_round(
                            name,
                            device=device,
                            seed=seed + run,
                            kernel_frees=kernel_frees,
                            measure=lambda act: _freed_by_then(counter, act),
                        )
                        if run:
                            rounds[name].append(done)
        finally:
            os.close(device)
        figures = {name: _figures(CONTENDERS[name].label, done) for name, done in rounds.items()}
        return {
            "tables": TABLES,
            "live_tables": LIVE_TABLES,
            "runs": runs,
            "background_instructions_per_second": round(counter.background * 1e9),
            "empty_call_instructions": counter.empty.call_instructions,
            "empty_instructions": counter.empty.instructions,
            "contenders": figures,
            # Elsewhere there is nothing that frees tables and keeps the mapping as it is.
            "claims": [_claim(figures)] if kernel_frees else [],
        }

    def rows(self, result: Result) -> Sequence[Row]:
        """Instructions a table; a way to free them that frees none here says so."""
        return [
            (
                figures["label"]
                + (", frees nothing" if CONTENDERS[name].idle(figures["vmpte_fall_bytes"]) else ""),
                text(figures["instructions_per_table"], "instructions"),
            )
            for name, figures in result["contenders"].items()
        ]


def _page_tables() -> tuple[int, int]:
    """This process's, and the whole machine's, in bytes."""
    return cleanup.page_tables().vmpte_bytes, pagetables_bytes()


def _freed_by_then(counter: meter.Meter, act: Callable[[], None]) -> meter.Cost:
    """The cost of an act; ExperimentError where the barrier did not wait for its tables."""
    status_before, machine_before = _page_tables()
    cost = counter.net(act)
    status_after, machine_after = _page_tables()
    freed, returned = status_before - status_after, machine_before - machine_after
    if abs(freed - returned) > _PAGETABLES_SLACK:
        raise ExperimentError(
            f"the RCU barrier came too early: {freed} bytes of tables left the process, "
            f"{returned} went back to the kernel"
        )
    return cost


def _figures(label: str, rounds: Sequence[Round[meter.Cost]]) -> dict[str, Any]:
    counts = rounds[0].counts
    return {
        "label": label,
        "vmpte_fall_bytes": rounds[0].vmpte_fall_bytes,
        "flushes": counts.flushes if counts else None,
        "instructions_per_table": spread([one.measured.instructions / TABLES for one in rounds]),
        "call_instructions_per_table": spread(
            [one.measured.call_instructions / TABLES for one in rounds]
        ),
    }


def _claim(figures: Mapping[str, Any]) -> Claim:
    own, kernel = (
        figures[name]["instructions_per_table"]["median"] for name in ("module", "dontneed")
    )
    return at_most(
        "instructions of the module for each freed table, of those of PT_RECLAIM",
        round(own / kernel, 3),
        _LARGEST_SHARE,
    )


PART = _Contenders()
