# SPDX-License-Identifier: MIT
"""The report of `scan` and `reclaim`: a table or JSON, and messages for standard error."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from cleanup.commands._selection import Gauge, Selection
from cleanup.errors import CallFailed, ProcessGone
from cleanup.result import Result, reasons

# A table shows at most MOST_ROWS processes, and a message names at most MOST_NAMES.
MOST_ROWS = 20
MOST_NAMES = 8
# The version of the JSON document. Version 2 added `error`, with the keys of a process's `error`.
SCHEMA = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome for one process. Sizes are VmPTE in bytes, or None if the process is gone."""

    pid: int
    name: str | None
    vmpte_bytes_before: int | None
    vmpte_bytes_after: int | None
    result: Result | None
    error: CallFailed | None

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain dictionaries and values."""
        return {
            "pid": self.pid,
            "name": self.name,
            "vmpte_bytes_before": self.vmpte_bytes_before,
            "vmpte_bytes_after": self.vmpte_bytes_after,
            "result": self.result and self.result.to_json(),
            "error": self.error and self.error.to_json(),
        }


@dataclass(slots=True)
class Report:
    """The report on one command's work. `not_reached` are pids; Ctrl-C sets `interrupted`."""

    selection: Selection
    frees: bool
    outcomes: list[Outcome] = field(default_factory=list)
    not_reached: list[int] = field(default_factory=list)
    interrupted: bool = False

    @property
    def total(self) -> Result:
        """The results of all processes together; complete if every one of them is."""
        complete = not self.not_reached and not self.interrupted
        complete = complete and all(outcome.result for outcome in self.outcomes)
        return _sum(self.outcomes, Result(complete=complete))

    @property
    def nothing_done(self) -> bool:
        """Whether each process but this one failed, and not all just because they had ended."""
        others = [outcome for outcome in self.outcomes if outcome.pid != os.getpid()]
        return all(outcome.error for outcome in others) and any(
            not isinstance(outcome.error, ProcessGone) for outcome in others
        )

    @property
    def failed(self) -> bool:
        """Whether the command has failed. It has not if only some of many processes refused."""
        if self.selection.explicit and any(outcome.error for outcome in self.outcomes):
            return True
        return self.interrupted or self.nothing_done

    def to_json(self) -> dict[str, Any]:
        """Return the document of --json."""
        return {
            "schema": SCHEMA,
            "error": self.error(),
            "frees": self.frees,
            "selection": {"by": self.selection.kind, "what": self.selection.what},
            "processes": [outcome.to_json() for outcome in self.outcomes],
            "total": self.total.to_json(),
            "errors": Counter(
                outcome.error.to_json()["errno"] for outcome in self.outcomes if outcome.error
            ),
            "not_reached": self.not_reached,
            "interrupted": self.interrupted,
            "pagetables": {gauge.name: gauge.to_json() for gauge in self.selection.gauges},
        }

    def error(self) -> dict[str, str | None] | None:
        """Return the failed command's message, errno and hint, or None if it did not fail."""
        if not self.failed:
            return None
        errors = [outcome.error.to_json() for outcome in self.outcomes if outcome.error]
        if self.selection.explicit and len(errors) == 1 and not self.interrupted:
            return errors[0]
        numbers = {error["errno"] for error in errors}
        hints = {error["hint"] for error in errors}
        return {
            "message": "; ".join(self.messages()),
            "errno": numbers.pop() if len(numbers) == 1 else None,
            "hint": hints.pop() if len(hints) == 1 else None,
        }

    def show(self) -> None:
        """Print the table, most freed tables first, then the page tables of the host or cgroup."""
        console = Console(highlight=False, markup=False)
        if (table := self._table()).rows:
            console.print(table)
        if dropped := self.total.zero_pages_dropped:
            console.print(f"zero-page entries dropped: {dropped}", soft_wrap=True)
        for gauge in self.selection.gauges:
            figure = f"page tables by {gauge.source}: {self._change(gauge)}"
            console.print(figure, soft_wrap=True)

    def messages(self) -> Iterator[str]:
        """Yield the lines for stderr. Unless pids were named, equal failures share a line."""
        if not self.outcomes and not self.not_reached:
            yield self.selection.nobody
        errors = [(outcome, outcome.error) for outcome in self.outcomes if outcome.error]
        if self.selection.explicit:
            yield from (str(error) for _, error in errors)
        else:
            groups: dict[str, list[Outcome]] = {}
            for outcome, error in errors:
                reason = str(error).removeprefix(f"pid {outcome.pid}: ")
                number = error.to_json()["errno"]
                groups.setdefault(f"{number}: {reason}", []).append(outcome)
            for reason, outcomes in groups.items():
                yield f"{_processes(len(outcomes))} left out, {reason}: {_names(outcomes)}"
            if self.nothing_done:
                but = " but this command itself" if len(errors) < len(self.outcomes) else ""
                yield f"no process could be {'cleaned' if self.frees else 'scanned'}{but}"
        if self.interrupted:
            yield "interrupted: the report shows what was done until then"
        if self.not_reached:
            yield f"{_processes(len(self.not_reached))} not reached"

    def _table(self) -> Table:
        table = Table(box=None)
        after, freed = (["after"], ["freed"]) if self.frees else ([], [])
        for heading in ("pid", "name", "page tables", *after, "tables", "empty", *freed):
            table.add_column(heading, justify="left" if heading == "name" else "right")
        table.add_column("left alone")
        seen = [
            outcome
            for outcome in self.outcomes
            if outcome.result and (outcome.result.tables.total or not outcome.error)
        ]
        seen.sort(key=self._weight, reverse=True)
        told = seen
        if not self.selection.explicit:
            told = [outcome for outcome in seen if outcome.result and outcome.result.empty.total]
            told = told[:MOST_ROWS]
        for outcome in told:
            self._add_row(table, str(outcome.pid), outcome.name or "", [outcome])
        if rest := [outcome for outcome in seen if outcome not in told]:
            self._add_row(table, "", f"{len(rest)} more" if told else _processes(len(rest)), rest)
        if len(seen) > 1 and told:
            self._add_row(table, "", "total", seen)
        return table

    def _weight(self, outcome: Outcome) -> tuple[int, int]:
        result = outcome.result or Result()
        return result.freed.total, result.empty.total

    def _add_row(self, table: Table, pid: str, name: str, outcomes: Sequence[Outcome]) -> None:
        result = _sum(outcomes, Result())
        after = _kilobytes([outcome.vmpte_bytes_after for outcome in outcomes])
        table.add_row(
            pid,
            name,
            _kilobytes([outcome.vmpte_bytes_before for outcome in outcomes]),
            *([after] if self.frees else []),
            str(result.tables.total),
            str(result.empty.total),
            *([str(result.freed.total)] if self.frees else []),
            reasons(result.skipped),
        )

    def _change(self, gauge: Gauge) -> str:
        if gauge.before is None:
            return "unknown, as the memory controller is not enabled there"
        before = _kilobytes([gauge.before])
        return f"{before}, then {_kilobytes([gauge.after])}" if self.frees else before


def _sum(outcomes: Sequence[Outcome], start: Result) -> Result:
    return sum((outcome.result for outcome in outcomes if outcome.result), start)


def _processes(number: int) -> str:
    return f"{number} process{'' if number == 1 else 'es'}"


def _names(outcomes: Sequence[Outcome]) -> str:
    names = ", ".join(
        f"{outcome.pid} {outcome.name or ''}".strip() for outcome in outcomes[:MOST_NAMES]
    )
    more = len(outcomes) - MOST_NAMES
    return f"{names} and {more} more" if more > 0 else names


def _kilobytes(sizes: Sequence[int | None]) -> str:
    """Return the sum of the known sizes in kB, or an empty text if none is known."""
    known = [size for size in sizes if size is not None]
    return f"{sum(known) // 1024} kB" if known else ""
