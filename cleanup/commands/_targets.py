# SPDX-License-Identifier: MIT
"""What `scan` and `reclaim` share: the options, and the work process by process."""

from __future__ import annotations

import errno
import json
import mmap
import signal
from collections.abc import Callable
from dataclasses import dataclass
from operator import length_hint
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from cleanup import cleaning, device
from cleanup.commands import PROGRAM, _selection
from cleanup.commands._report import Outcome, Reading, Report
from cleanup.commands._selection import Selection, Target
from cleanup.errors import CallFailed, ProcessGone, Unmapped
from cleanup.process import name_of, page_tables
from cleanup.result import Result

EXAMPLES = """\b
Examples:
  pgtable-cleanup {verb} 1234 5678
  pgtable-cleanup {verb} --all
  pgtable-cleanup {verb} --cgroup system.slice/postgresql.service --levels pte
  pgtable-cleanup {verb} --mappers /dev/shm/cache
  pgtable-cleanup {verb} --mappers /proc/1234/fd/7 --json
  pgtable-cleanup {verb} --all --max-tables 100000 --max-hold 500000

Of --all, --cgroup and --mappers, processes that exit meanwhile or may not be touched are counted
and named; the command fails only if none of the others could be worked on either. Sizes of page
tables are read again when they have settled: tables are freed after an RCU grace period, and a
cgroup's memory.stat may lag behind by 2 s.
"""


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """The command line, parsed; `select` finds the processes."""

    select: Callable[[], Selection]
    levels: tuple[str, ...] | None
    zero_pages: bool
    max_tables: int | None
    max_hold_ns: int | None
    dry_run: bool
    as_json: bool


class LevelNames(click.ParamType[tuple[str, ...]]):
    """Levels by name, separated by commas."""

    name = "levels"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Check the names here, so that a wrong one is a usage error."""
        levels = tuple(str(value).split(","))
        try:
            cleaning.level_mask(levels)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return levels


def target_command(function: Callable[[TargetOptions], None]) -> click.Command:
    """A command with the arguments and options that choose processes and bound the work."""

    @click.command(
        function.__name__,
        help=function.__doc__,
        epilog=EXAMPLES.format(verb=function.__name__),
        options_metavar="[OPTIONS]",
    )
    @click.argument("pids", metavar="[PID]...", type=click.IntRange(min=1), nargs=-1)
    @click.option("--all", "every", is_flag=True, help="Every process, this one last.")
    @click.option(
        "--cgroup",
        metavar="PATH",
        help="Every process in a cgroup (v2) and those below it; a directory, or a name below "
        "the cgroup2 mount.",
    )
    @click.option(
        "--mappers",
        metavar="FILE",
        help="Every process that maps the file or memfd (/proc/PID/fd/N), only where it does.",
    )
    @click.option(
        "--levels",
        type=LevelNames(),
        metavar="pte,pmd,pud",
        help="Levels of the page-table tree; by default all that the module serves.",
    )
    @click.option(
        "--zero-pages",
        is_flag=True,
        help="Drop entries of private anonymous memory that map the shared zero page; a scan "
        "counts tables that hold nothing else as empty.",
    )
    @click.option(
        "--max-tables",
        type=click.IntRange(min=1),
        metavar="N",
        help="Stop after N tables in all processes together: freed ones, or seen ones of a scan.",
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
    def command(
        pids: tuple[int, ...],
        every: bool,
        cgroup: str | None,
        mappers: str | None,
        **options: Any,  # noqa: ANN401 -- click passes what it parsed
    ) -> None:
        choices: list[Callable[[], Selection]] = []
        if pids:
            choices.append(lambda: _selection.by_pid(pids))
        if every:
            choices.append(_selection.every_process)
        if cgroup is not None:
            choices.append(lambda: _selection.of_cgroup(cgroup))
        if mappers is not None:
            choices.append(lambda: _selection.mapping_file(mappers))
        if len(choices) != 1:
            raise click.UsageError(
                "name the processes in one way: PIDs, --all, --cgroup PATH or --mappers FILE"
            )
        function(TargetOptions(choices[0], **options))

    return command


class Interrupt:
    """Lets the first Ctrl-C end the work between two calls, so that no call's counts are lost.

    The kernel ends a call when a signal comes. A second Ctrl-C is the usual one.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Interrupt:
        self._before = signal.getsignal(signal.SIGINT)
        # A job that was started with SIGINT ignored goes on ignoring it.
        if self._before is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_exception: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raise KeyboardInterrupt if it came."""
        if self.asked:
            raise KeyboardInterrupt


def run(options: TargetOptions, *, frees: bool) -> None:
    """Scan or reclaim the processes chosen and print the report; exit code 1 if that failed."""
    # Without a usable module, one message for all.
    with device.opened():
        pass
    selection = options.select()
    readings = [Reading(gauge, gauge.read()) for gauge in selection.gauges]
    report = Report(selection, frees, readings)
    _work(report, options)
    _read_again(report)
    if options.as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        report.show()
    for message in report.messages():
        click.echo(f"{PROGRAM}: {message}", err=True)
    if report.failed:
        click.get_current_context().exit(1)


def _work(report: Report, options: TargetOptions) -> None:
    """Go through the processes until the bound, a Ctrl-C, or an error that all would give."""
    targets = report.selection.targets
    number = length_hint(targets)
    left = options.max_tables
    ended = False
    with Interrupt() as interrupt, Console(stderr=True).status("") as status:
        for index, target in enumerate(targets, 1):
            if ended or left == 0 or interrupt.asked:
                report.not_reached.append(target.pid)
                continue
            what = f"process {index} of {number}" if number else f"process {index}"
            outcome = _process(target, options, report.frees, left, interrupt, status, what)
            report.outcomes.append(outcome)
            ended = outcome.error is not None and outcome.error.errno == errno.EINVAL
            if left is not None and outcome.result is not None:
                done = outcome.result.freed if report.frees else outcome.result.tables
                left = max(0, left - done.total)
        report.interrupted = interrupt.asked


def _process(
    target: Target,
    options: TargetOptions,
    frees: bool,
    max_tables: int | None,
    interrupt: Interrupt,
    status: Status,
    what: str,
) -> Outcome:
    pid = target.pid
    name, before, after, result, failure = None, None, None, None, target.error
    work = cleaning.reclaim if frees else cleaning.scan

    def progress(so_far: Result) -> None:
        nonlocal result
        result = so_far
        seen, freed = so_far.tables.total, so_far.freed.total
        status.update(escape(f"{what}, {pid} {name}: {seen} tables seen, {freed} freed"))
        interrupt.check()

    try:
        name = name_of(pid)
        status.update(escape(f"{what}, {pid} {name}"))
        before = page_tables(pid).vmpte_bytes
        if failure is None:
            result = work(
                pid,
                ranges=target.ranges,
                levels=options.levels,
                max_tables=max_tables,
                max_hold_ns=options.max_hold_ns,
                zero_pages=options.zero_pages,
                progress=progress,
            )
    except KeyboardInterrupt:
        interrupt.asked = True
    except Unmapped as error:
        # Some of its mappings have gone since they were looked up; the rest is done.
        result = error.result
    except CallFailed as error:
        failure, result = error, error.result
    if result is not None:
        try:
            after = page_tables(pid).vmpte_bytes
        except ProcessGone:
            after = None
    return Outcome(pid, name, before, after, result, failure)


def _read_again(report: Report) -> None:
    """What the gauges show in the end; what was freed takes a while to show."""
    freed = report.total.freed.total * mmap.PAGESIZE
    for reading in report.readings:
        try:
            if reading.before is None or not freed or report.interrupted:
                reading.after = reading.gauge.read()
            else:
                reading.after = reading.gauge.settled(reading.before - freed)
        except KeyboardInterrupt:
            report.interrupted = True
            reading.after = reading.gauge.read()
