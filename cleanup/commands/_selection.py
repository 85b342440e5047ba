# SPDX-License-Identifier: MIT
"""Selects processes for `scan` and `reclaim`: by pid, all, by cgroup, or by a file they map."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from cleanup import cgroup, proc
from cleanup.errors import CallFailed, CleanupError, NotPermitted, ProcessGone
from cleanup.process import page_tables
from cleanup.ranges import Range
from cleanup.rmap import mappers

# Without a bound, a cgroup in which processes start all the time would keep the command busy.
CGROUP_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Target:
    """One process, and its ranges to work on; None is its whole address space.

    `error` says why its ranges could not be looked up.
    """

    pid: int
    ranges: tuple[Range, ...] | None = None
    error: CallFailed | None = None


@dataclass(slots=True)
class Gauge:
    """A figure of page tables in bytes, where it is from, and what it was `before` and `after`.

    `read` returns None if the kernel has no such figure. The figure has settled when it has not
    fallen for `quiet_seconds`.
    """

    name: str
    source: Path
    read: Callable[[], int | None]
    quiet_seconds: float = proc.SETTLE_SECONDS
    before: int | None = None
    after: int | None = None

    def settle(self, goal: int) -> None:
        """Wait until the figure has settled, or is down to `goal`."""
        proc.settled(lambda: self.read() or 0, quiet_seconds=self.quiet_seconds, goal=goal)

    def to_json(self) -> dict[str, Any]:
        """Return the source and the figures as plain values."""
        return {
            "source": str(self.source),
            "bytes_before": self.before,
            "bytes_after": self.after,
        }


@dataclass(frozen=True, slots=True)
class Selection:
    """The processes that a command works on, each once.

    `kind` says how they were chosen (pids, all, cgroup, mappers) and `what` names the cgroup or the
    file. `nobody` is the message if there is no process.
    """

    kind: str
    what: str | None
    targets: Iterable[Target]
    nobody: str
    gauges: tuple[Gauge, ...] = ()

    @property
    def explicit(self) -> bool:
        """Whether the processes were named one by one. If so, one failure fails the command."""
        return self.kind == "pids"


def by_pid(pids: Sequence[int]) -> Selection:
    """Select the processes with these pids, in this order."""
    return Selection("pids", None, [Target(pid) for pid in dict.fromkeys(pids)], "no process")


def every_process() -> Selection:
    """Select all processes with an address space: neither kernel threads nor zombies."""
    targets = []
    for pid in _own_last(psutil.pids()):
        with suppress(ProcessGone):
            if page_tables(pid).vmsize_bytes:
                targets.append(Target(pid))
    gauges = [Gauge("host", Path("/proc/meminfo"), proc.pagetables_bytes)]
    with suppress(CleanupError):  # cgroup2 is not mounted
        whole = _cgroup_gauge(cgroup.root())
        # The root cgroup counts only what is charged to the cgroups below it.
        if whole.read():
            gauges.append(whole)
    return Selection("all", None, targets, "no process", tuple(gauges))


def of_cgroup(name: str) -> Selection:
    """Select the processes in a cgroup and below it, and those that start there meanwhile."""
    directory = cgroup.find(name)
    return Selection(
        "cgroup",
        str(directory),
        _in_rounds(directory),
        f"no process in {directory}",
        (_cgroup_gauge(directory),),
    )


def mapping_file(path: str) -> Selection:
    """Select the processes that map a file, and where; those with unreadable maps get an error."""
    refused: list[Target] = []

    def refuse(pid: int, error: PermissionError) -> None:
        failure = NotPermitted(
            error.errno or errno.EACCES,
            f"pid {pid}: its mappings may not be read",
            hint="run as its user or as root",
        )
        refused.append(Target(pid, error=failure))

    try:
        found = mappers(path, refused=refuse)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CleanupError(f"{path}: {reason}", hint="name a file, or /proc/PID/fd/N") from error
    except ValueError as error:
        hint = "only files and memfds have mappers to be found"
        raise CleanupError(str(error), hint=hint) from error
    targets = [Target(pid, ranges) for pid, ranges in found]
    return Selection("mappers", path, targets + refused, f"no process maps {path}")


def _cgroup_gauge(directory: Path) -> Gauge:
    read = partial(cgroup.pagetables_bytes, directory)
    return Gauge("cgroup", directory / "memory.stat", read, cgroup.LAZY_SECONDS)


def _own_last(pids: Iterable[int]) -> list[int]:
    """Sort pids. This process comes last, because its own tables change until it is done."""
    return sorted(pids, key=lambda pid: (pid == os.getpid(), pid))


def _in_rounds(directory: Path) -> Iterator[Target]:
    seen: set[int] = set()
    for _ in range(CGROUP_ROUNDS):
        new = cgroup.processes(directory) - seen
        if not new:
            return
        seen |= new
        yield from map(Target, _own_last(new))
