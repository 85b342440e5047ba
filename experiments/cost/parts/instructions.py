# SPDX-License-Identifier: MIT
"""Instructions of each method of freeing PTE tables, the work of RCU's callbacks included."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cleanup
from cleanup.proc import pagetables_bytes
from experiments import part
from experiments.cost import meter
from experiments.cost.methods import LIVE_TABLES, METHODS, MethodRun, run_all
from experiments.sparse import PAGE
from experiments.spread import spread, text

_RUNS = 5
# The module may take at most this share of PT_RECLAIM's instructions for the same tables.
_LARGEST_SHARE = 0.6
# Bytes of tables that the rest of the guest may gain or lose while a method runs.
_PAGETABLES_SLACK = 32 * PAGE


class Instructions(part.Part):
    name = "reclaim-cost/instructions"
    description = (
        "instructions for each empty PTE table, from the call until an RCU barrier is through"
    )
    needs = part.COUNTING

    def measure(self, scale: part.Scale) -> part.Measured:
        """Run the methods once to warm up, then in rounds that each begin with another method."""
        runs = scale.runs(_RUNS)
        with meter.running() as counter:
            tables, done = run_all(scale, runs, partial(_freed_by_then, counter), warm_up=True)
        return {
            "tables": tables,
            "live_tables": LIVE_TABLES,
            "runs": runs,
            "background_instructions_per_second": round(counter.background * 1e9),
            "empty_call_instructions": counter.empty.call_instructions,
            "empty_instructions": counter.empty.instructions,
            "methods": {name: _figures(name, rounds, tables) for name, rounds in done.items()},
        }

    def title(self, measured: part.Measured) -> str:
        return self.description.replace(
            "each empty PTE table", f"each of {measured['tables']} empty PTE tables"
        )

    def claims(self, measured: part.Measured) -> list[part.Claim]:
        """Compare with PT_RECLAIM, the one other method that frees tables and keeps the mapping."""
        own, kernel = (measured["methods"][name] for name in ("module", "zap"))
        if METHODS["zap"].idle(kernel["vmpte_fall_bytes"]):
            return []
        one, other = (each["instructions_per_table"]["median"] for each in (own, kernel))
        return [
            part.at_most(
                "instructions of the module for each freed table, of those of PT_RECLAIM",
                round(one / other, 3),
                _LARGEST_SHARE,
            )
        ]

    def rows(self, measured: part.Measured) -> Sequence[part.Row]:
        """Return each method's instructions per table, and say which methods free none here."""
        return [
            (
                figures["label"]
                + (", frees nothing" if METHODS[name].idle(figures["vmpte_fall_bytes"]) else ""),
                text(figures["instructions_per_table"], "instructions"),
            )
            for name, figures in measured["methods"].items()
        ]

    def draw(self, documents: part.Documents) -> part.Pictures:
        """Draw a bar for each method, or words where it frees nothing on that kernel."""
        from experiments.bars import bars_of  # noqa: PLC0415 -- a guest draws nothing

        def figures(measured: part.Measured, name: str) -> dict[str, Any] | None:
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
    """Return the bytes of page tables of this process, and of the whole machine."""
    return cleanup.page_tables().vmpte_bytes, pagetables_bytes()


def _freed_by_then(counter: meter.Meter, act: Callable[[], None]) -> meter.Cost:
    """Return the cost of `act`, with that of RCU handing the freed tables back to the kernel.

    Raises ExperimentError if RCU has not handed all of them back when the cost is read.
    """
    status_before, machine_before = _page_tables()
    cost = counter.net(act)
    status_after, machine_after = _page_tables()
    freed, returned = status_before - status_after, machine_before - machine_after
    if abs(freed - returned) > _PAGETABLES_SLACK:
        raise part.ExperimentError(
            f"the RCU barrier came too early: {freed} bytes of tables left the process, "
            f"{returned} went back to the kernel"
        )
    return cost


def _figures(name: str, rounds: Sequence[MethodRun[meter.Cost]], tables: int) -> dict[str, Any]:
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
