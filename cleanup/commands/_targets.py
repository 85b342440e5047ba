# SPDX-License-Identifier: MIT
"""What `scan` and `reclaim` share: the options, the work process by process, the output."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cleanup import call, device
from cleanup.commands import PROGRAM
from cleanup.errors import CallFailed
from cleanup.process import name_of, page_tables
from cleanup.result import Result


@dataclass(frozen=True, slots=True)
class Options:
    """The command line, parsed."""

    pids: tuple[int, ...]
    levels: tuple[str, ...] | None
    max_tables: int | None
    max_hold_ns: int | None
    dry_run: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one process; sizes are VmPTE, in bytes."""

    pid: int
    name: str | None
    vmpte_bytes_before: int | None
    vmpte_bytes_after: int | None
    result: Result | None
    error: CallFailed | None

    def to_json(self) -> dict[str, Any]:
        """The same as plain dictionaries and values."""
        return {
            "pid": self.pid,
            "name": self.name,
            "vmpte_bytes_before": self.vmpte_bytes_before,
            "vmpte_bytes_after": self.vmpte_bytes_after,
            "result": self.result and self.result.to_json(),
            "error": self.error
            and {
                "errno": self.error.errno,
                "name": errno.errorcode.get(self.error.errno or 0),
                "message": str(self.error),
            },
        }


class Levels(click.ParamType[tuple[str, ...]]):
    """Levels by name, separated by commas."""

    name = "levels"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Check the names here, so that a wrong one is a usage error."""
        levels = tuple(str(value).split(","))
        try:
            call.level_mask(levels)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return levels


def target_command(function: Callable[[Options], None]) -> click.Command:
    """A command with the arguments and options that choose processes and bound the work."""

    @click.command(function.__name__, help=function.__doc__)
    @click.argument("pids", metavar="PID...", type=click.IntRange(min=1), nargs=-1, required=True)
    @click.option(
        "--levels",
        type=Levels(),
        metavar="pte,pmd,pud",
        help="Levels of the page-table tree; by default all that the module serves.",
    )
    @click.option(
        "--max-tables",
        type=click.IntRange(min=1),
        metavar="N",
        help="Stop after N tables in each process: freed ones, or seen ones of a scan.",
    )
    @click.option(
        "--max-hold",
        "max_hold_ns",
        type=click.IntRange(min=1),
        metavar="NS",
        help="Longest hold of a process's mmap lock, in nanoseconds.",
    )
    @click.option("--dry-run", is_flag=True, help="Count only, free nothing: what scan does.")
    @click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
    def command(**options: Any) -> None:  # noqa: ANN401 -- click passes what it parsed
        function(Options(**options))

    return command


def run(options: Options, *, frees: bool) -> None:
    """Scan or reclaim each process and print the outcomes; exit code 1 if any of them failed."""
    # Without a usable module, one message for all.
    with device.opened():
        pass
    outcomes = [_process(pid, options, frees) for pid in dict.fromkeys(options.pids)]
    if options.as_json:
        document = {"frees": frees, "processes": [outcome.to_json() for outcome in outcomes]}
        click.echo(json.dumps(document, indent=2))
    else:
        _show(outcomes, frees)
    errors = [outcome.error for outcome in outcomes if outcome.error]
    for error in errors:
        click.echo(f"{PROGRAM}: {error}", err=True)
    if errors:
        click.get_current_context().exit(1)


def _process(pid: int, options: Options, frees: bool) -> Outcome:
    name, before, after, result, failure = None, None, None, None, None
    work = call.reclaim if frees else call.scan
    with Console(stderr=True).status(f"pid {pid}") as status:
        try:
            name = name_of(pid)
            before = page_tables(pid).vmpte_bytes
            result = work(
                pid,
                levels=options.levels,
                max_tables=options.max_tables,
                max_hold_ns=options.max_hold_ns,
                progress=lambda so_far: status.update(
                    f"pid {pid}: {so_far.tables.total} tables seen, {so_far.freed.total} freed"
                ),
            )
            after = page_tables(pid).vmpte_bytes
        except CallFailed as error:
            failure, result = error, error.result
    return Outcome(pid, name, before, after, result, failure)


def _show(outcomes: Sequence[Outcome], frees: bool) -> None:
    table = Table(box=None)
    for heading in ("pid", "name", "page tables", *(["after"] if frees else []), "tables", "empty"):
        table.add_column(heading, justify="left" if heading == "name" else "right")
    if frees:
        table.add_column("freed", justify="right")
    table.add_column("left alone")
    for outcome in outcomes:
        result = outcome.result
        if result is None or (outcome.error and not result.tables.total):
            continue
        table.add_row(
            str(outcome.pid),
            outcome.name,
            _kilobytes(outcome.vmpte_bytes_before),
            *([_kilobytes(outcome.vmpte_bytes_after)] if frees else []),
            str(result.tables.total),
            str(result.empty.total),
            *([str(result.freed.total)] if frees else []),
            ", ".join(f"{number} {reason}" for reason, number in result.skipped.items()),
        )
    if table.rows:
        Console(highlight=False, markup=False).print(table)


def _kilobytes(size: int | None) -> str:
    return "" if size is None else f"{size // 1024} kB"
