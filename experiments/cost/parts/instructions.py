# SPDX-License-Identifier: MIT
"""Instructions of each method of freeing PTE tables, the work of RCU's callbacks included."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import cleanup
from cleanup import _uapi, probe
from cleanup.proc import pagetables_bytes
from experiments.cost import meter
from experiments.cost.methods import (
    LIVE_TABLES,
    METHODS,
    QUICK_TABLES,
    TABLES,
    Round,
    run_round,
)
from experiments.part import (
    COUNTING,
    Claim,
    Documents,
    ExperimentError,
    Measured,
    Part,
    Pictures,
    Row,
    Scale,
    at_most,
)
from experiments.sparse import PAGE
from experiments.spread import rotated, spread, text

_RUNS = 5
# Of what PT_RECLAIM takes for the same tables.
_LARGEST_SHARE = 0.6
# Tables that the rest of the guest may get or lose meanwhile.
_PAGETABLES_SLACK = 32 * PAGE


class Instructions(Part):
    name = "reclaim-cost/instructions"
    description = (
        "instructions for each empty PTE table, from the call until an RCU barrier is through"
    )
    needs = COUNTING

    def measure(self, scale: Scale) -> Measured:
        """Run to warm up, then as often as it counts, each time beginning with another method."""
        names = list(METHODS)
        tables = scale.pick(TABLES, QUICK_TABLES)
        rounds: dict[str, list[Round[meter.Cost]]] = {name: [] for name in names}
        runs = scale.runs(_RUNS)
        kernel_frees = probe.dontneed_frees_tables()
        device = _uapi.open_device()
        try:
            with meter.running() as counter:
                for run in range(runs + 1):
                    scale.progress("warming up" if run == 0 else f"run {run} of {runs}")
                    for name in rotated(names, run):
                        done = run_round(
                            name,
                            device=device,
                            seed=scale.seed + run,
                            tables=tables,
                            kernel_frees=kernel_frees,
                            measure=lambda act: _freed_by_then(counter, act),
                        )
                        if run:
                            rounds[name].append(done)
        finally:
            os.close(device)
        figures = {name: _figures(name, done, tables) for name, done in rounds.items()}
        return {
            "tables": tables,
            "live_tables": LIVE_TABLES,
            "runs": runs,
            "background_instructions_per_second": round(counter.background * 1e9),
            "empty_call_instructions": counter.empty.call_instructions,
            "empty_instructions": counter.empty.instructions,
            "methods": figures,
        }

    def title(self, measured: Measured) -> str:
        return self.description.replace(
            "each empty PTE table", f"each of {measured['tables']} empty PTE tables"
        )

    def claims(self, measured: Measured) -> list[Claim]:
        """Claim less than PT_RECLAIM, the one other that frees tables and keeps the mapping."""
        own, kernel = (measured["methods"][name] for name in ("module", "zap"))
        if METHODS["zap"].idle(kernel["vmpte_fall_bytes"]):
            return []
        one, other = (each["instructions_per_table"]["median"] for each in (own, kernel))
        return [
            at_most(
                "instructions of the module for each freed table, of those of PT_RECLAIM",
                round(one / other, 3),
                _LARGEST_SHARE,
            )
        ]

    def rows(self, measured: Measured) -> Sequence[Row]:
        """Return instructions a table; a method that frees none here says so."""
        return [
            (
                figures["label"]
                + (", frees nothing" if METHODS[name].idle(figures["vmpte_fall_bytes"]) else ""),
                text(figures["instructions_per_table"], "instructions"),
            )
            for name, figures in measured["methods"].items()
        ]

    def draw(self, documents: Documents) -> Pictures:
        """What frees nothing on a kernel has no bar, but a word."""
        from experiments.bars import bars_of  # noqa: PLC0415 -- a guest draws nothing

        def figures(measured: Measured, name: str) -> dict[str, Any] | None:
            one = measured["methods"][name]
            idle = METHODS[name].idle(one["vmpte_fall_bytes"])
            return None if idle else one["instructions_per_table"]

        return bars_of(
            documents,
            {name: method.label for name, method in METHODS.items()},
            figures,
            label="guest instructions for each PTE table, until RCU has freed it:\n"
            "median, least to most",
            missing="frees nothing",
        )


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


def _figures(name: str, rounds: Sequence[Round[meter.Cost]], tables: int) -> dict[str, Any]:
    counts = rounds[0].counts
    return {
        "label": METHODS[name].label,
        "vmpte_fall_bytes": rounds[0].vmpte_fall_bytes,
        "flushes": counts.flushes if counts else None,
        "instructions_per_table": spread([one.measured.instructions / tables for one in rounds]),
        "call_instructions_per_table": spread(
            [one.measured.call_instructions / tables for one in rounds]
        ),
    }


PART = Instructions()
