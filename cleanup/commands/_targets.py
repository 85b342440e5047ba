# SPDX-License-Identifier: MIT
"""The verbs `scan` and `reclaim`: their options, and the work process by process."""

from __future__ import annotations

import errno
import mmap
import signal
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import length_hint
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from cleanup.cleaning import Work, address_space, clean
from cleanup.commands import _selection
from cleanup.commands._output import json_option, print_document, print_message, quiet_option
from cleanup.commands._params import duration, level_names, pid
from cleanup.commands._report import Outcome, Report
from cleanup.commands._selection import Selection, Target
from cleanup.device import Device, opened
from cleanup.errors import CallFailed, ProcessGone, Unmapped
from cleanup.process import name_of, page_tables
from cleanup.result import Result
from cleanup.skip_reason import SkipReason

EPILOG = """\b
Examples:
  pgtable-cleanup {verb} 1234 5678
  pgtable-cleanup {verb} --all
  pgtable-cleanup {verb} --cgroup system.slice/redis.service --levels pte
  pgtable-cleanup {verb} --mappers /dev/shm/cache
  pgtable-cleanup {verb} --mappers /proc/1234/fd/7 --json
  pgtable-cleanup {verb} --all --max-tables 100000 --max-hold 500us

With --all, --cgroup and --mappers the command goes on where a process exits meanwhile or may not
be touched, and names it on standard error. It fails only if it could work on no other process.

Page tables are freed after an RCU grace period, and a cgroup's memory.stat may lag behind by 2 s.
So the figures of host and cgroup are read again once they have settled.

The column "left alone" counts the tables that stay, by reason:

\b
{reasons}
"""


def target_command(verb: str, short: str, *, frees: bool) -> click.Command:
    """Make the command of a verb that works on processes; `short` is its help in one sentence."""

    @click.command(
        verb,
        help=short,
        epilog=EPILOG.format(verb=verb, reasons=_reasons()),
        options_metavar="[OPTIONS]",
        params=_parameters(frees=frees),
    )
    @quiet_option
    @json_option
    def command(
        pids: tuple[int, ...],
        every: bool,
        cgroup: str | None,
        mappers: str | None,
        as_json: bool,
        quiet: bool,
        dry_run: bool = False,
        **bounds: Any,  # noqa: ANN401 -- click passes what it parsed
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
        run(choices[0], Work(frees and not dry_run, **bounds), as_json=as_json, quiet=quiet)

    return command


def _parameters(*, frees: bool) -> list[click.Parameter]:
    """Return the parameters that choose the processes and bound the work."""
    zero_pages, max_tables = (
        "First drop the entries of private anonymous memory that map the shared zero page.",
        "Stop after N freed tables in all processes together.",
    )
    if not frees:
        zero_pages = "Count tables as empty, too, that reclaim --zero-pages would empty."
        max_tables = "Stop after N tables seen in all processes together."
    dry_run = click.Option(
        ["--dry-run"], is_flag=True, help="Count only and free nothing, as scan does."
    )
    return [
        click.Argument(["pids"], metavar="[PID]...", type=pid, nargs=-1),
        click.Option(["--all", "every"], is_flag=True, help="Every process, this one last."),
        click.Option(
            ["--cgroup"],
            metavar="PATH",
            help="Every process in a cgroup (v2) and those below it; a directory, or a name below "
            "the cgroup2 mount.",
        ),
        click.Option(
            ["--mappers"],
            metavar="FILE",
            help="Every process that maps the file or memfd (/proc/PID/fd/N), only where it does.",
        ),
        click.Option(
            ["--levels"],
            type=level_names,
            metavar="pte,pmd,pud",
            help="Levels of the page-table tree; by default all that the module serves.",
        ),
        click.Option(["--zero-pages"], is_flag=True, help=zero_pages),
        click.Option(["--max-tables"], type=click.IntRange(min=1), metavar="N", help=max_tables),
        click.Option(
            ["--max-hold", "max_hold_ns"],
            type=duration,
            metavar="DURATION",
            help="Longest hold of a process's mmap lock: 500us, 2ms.",
        ),
        *([dry_run] if frees else []),
    ]


def _reasons() -> str:
    """Return the meaning of each skip reason, in lines that click need not wrap."""
    width = max(map(len, SkipReason))
    return "\n".join(
        line
        for reason in SkipReason
        for line in textwrap.wrap(
            reason.__doc__ or "",
            76,
            initial_indent=f"  {reason:{width}}  ",
            subsequent_indent=" " * (width + 4),
        )
    )


class Interrupt:
    """Lets the first Ctrl-C end the work between two calls, so that no call's counts are lost.

    The kernel ends a call when a signal comes. A second Ctrl-C ends the program as usual.
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
        """Raise KeyboardInterrupt if Ctrl-C has come."""
        if self.asked:
            raise KeyboardInterrupt


def run(select: Callable[[], Selection], work: Work, *, as_json: bool, quiet: bool) -> None:
    """Do the work on the processes that `select` finds, and print the report.

    If the work failed, the command ends with exit code 1.
    """
    # Open the device first and once, so that a missing module gives one message for all processes.
    with opened() as device:
        selection = select()
        for gauge in selection.gauges:
            gauge.before = gauge.read()
        report = Report(selection, work.frees)
        console = Console(stderr=True, quiet=quiet)
        with Interrupt() as interrupt, console.status("") as status:
            _Run(device, work, report, interrupt, status).all()
    _read_again(report)
    if as_json:
        print_document(report.to_json())
    else:
        report.show()
    if report.failed or not quiet:
        for message in report.messages():
            print_message(message)
    if report.failed:
        click.get_current_context().exit(1)


@dataclass(slots=True)
class _Run:
    """One command's work on its processes."""

    device: Device
    work: Work
    report: Report
    interrupt: Interrupt
    status: Status

    def all(self) -> None:
        """Work on each process. Stop at max_tables, Ctrl-C or EINVAL (taken to hit all alike)."""
        report, left, ended = self.report, self.work.max_tables, False
        targets = report.selection.targets
        number = length_hint(targets)
        for index, target in enumerate(targets, 1):
            if ended or left == 0 or self.interrupt.asked:
                report.not_reached.append(target.pid)
                continue
            what = f"process {index} of {number}" if number else f"process {index}"
            outcome = self._one(target, replace(self.work, max_tables=left), what)
            report.outcomes.append(outcome)
            ended = outcome.error is not None and outcome.error.errno == errno.EINVAL
            if left is not None and outcome.result is not None:
                done = outcome.result.freed if report.frees else outcome.result.tables
                left = max(0, left - done.total)
        report.interrupted = self.interrupt.asked

    def _one(self, target: Target, work: Work, what: str) -> Outcome:
        pid = target.pid
        name, before, after, result, failure = None, None, None, None, target.error

        def progress(so_far: Result) -> None:
            nonlocal result
            result = so_far
            seen, freed = so_far.tables.total, so_far.freed.total
            self.status.update(escape(f"{what}, {pid} {name}: {seen} tables seen, {freed} freed"))
            self.interrupt.check()

        try:
            name = name_of(pid)
            self.status.update(escape(f"{what}, {pid} {name}"))
            before = page_tables(pid).vmpte_bytes
            if failure is None:
                with address_space(pid, target.ranges) as space:
                    result = clean(self.device, space, work, progress)
        except KeyboardInterrupt:
            self.interrupt.asked = True
        except Unmapped as error:
            # Some mappings have gone since they were looked up; the rest is done.
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
    """Read the page-table figures again, once they have settled: freed tables show late."""
    freed = report.total.freed.total * mmap.PAGESIZE
    for gauge in report.selection.gauges:
        try:
            if gauge.before is not None and freed and not report.interrupted:
                gauge.settle(gauge.before - freed)
            gauge.after = gauge.read()
        except KeyboardInterrupt:
            report.interrupted = True
            gauge.after = gauge.read()


scan = target_command(
    "scan", "Count the page tables of processes, and those of them that are empty.", frees=False
)
reclaim = target_command(
    "reclaim",
    "Free the empty page tables of running processes; data and state are never touched.",
    frees=True,
)
