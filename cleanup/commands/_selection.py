# SPDX-License-Identifier: MIT
"""Which processes `scan` and `reclaim` are about: named, all, a cgroup's, or a file's mappers."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from cleanup import cgroup, proc
from cleanup.errors import CallFailed, CleanupError, NotPermitted, ProcessGone
from cleanup.process import page_tables
from cleanup.ranges import Range
from cleanup.rmap import mappers

# A cgroup in which processes start all the time would keep us for ever.
CGROUP_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Target:
    """One process, all of it or the ranges meant; `error` is why not even these can be told."""

    pid: int
    ranges: tuple[Range, ...] | None = None
    error: CallFailed | None = None


@dataclass(frozen=True, slots=True)
class Gauge:
    """A figure of page tables, in bytes, and where it is from; None if the kernel has none.

    It has settled when it fell no more for `quiet_seconds`.
    """

    name: str
    source: Path
    read: Callable[[], int | None]
    quiet_seconds: float = proc.SETTLE_SECONDS

    def settled(self, goal: int) -> int | None:
        """The figure when it has settled, or is down to `goal`."""
        proc.settled(lambda: self.read() or 0, quiet_seconds=self.quiet_seconds, goal=goal)
        return self.read()


@dataclass(frozen=True, slots=True)
class Selection:
    """Processes, each once; `kind` says by what they were chosen, `what` by which.

    If `explicit`, each was asked for by its pid, so that a failure is the command's.
    """

    kind: str
    what: str | None
    targets: Iterable[Target]
    nobody: str
    gauges: tuple[Gauge, ...] = ()

    @property
    def explicit(self) -> bool:
        """Whether the processes were named one by one."""
        return self.kind == "pids"


def by_pid(pids: Sequence[int]) -> Selection:
    """The processes named, in this order."""
    return Selection("pids", None, [Target(pid) for pid in dict.fromkeys(pids)], "no process")


def every_process() -> Selection:
    """All that have an address space now: neither kernel threads nor zombies."""
    targets = []
    for pid in _own_last(psutil.pids()):
        with suppress(ProcessGone):
            if page_tables(pid).vmsize_bytes:
                targets.append(Target(pid))
    gauges = [Gauge("host", Path("/proc/meminfo"), proc.pagetables_bytes)]
    with suppress(CleanupError):  # cgroup2 is not mounted
        gauges.append(_cgroup_gauge(cgroup.root()))
    return Selection("all", None, targets, "no process", tuple(gauges))


def of_cgroup(name: str) -> Selection:
    """Those in a cgroup and below it, those included that start while the others are worked on."""
    directory = cgroup.find(name)
    return Selection(
        "cgroup",
        str(directory),
        _in_rounds(directory),
        f"no process in {directory}",
        (_cgroup_gauge(directory),),
    )


def mapping_file(path: str) -> Selection:
    """Those that map a file, where they map it; and those of which this may not be seen."""
    refused: list[Target] = []

    def refuse(pid: int, error: PermissionError) -> None:
        message = f"pid {pid}: what it maps may not be seen: run as its user or as root"
        number = error.errno or errno.EACCES
        refused.append(Target(pid, error=NotPermitted(number, message)))

    try:
        found = mappers(path, refused=refuse)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CleanupError(f"{path}: {reason}: name a file, or /proc/PID/fd/N") from error
    except ValueError as error:
        raise CleanupError(f"{error}: only files and memfds have mappers to be found") from error
    targets = [Target(pid, ranges) for pid, ranges in found]
    return Selection("mappers", path, targets + refused, f"no process maps {path}")


def _cgroup_gauge(directory: Path) -> Gauge:
    read = partial(cgroup.pagetables_bytes, directory)
    return Gauge("cgroup", directory / "memory.stat", read, cgroup.LAZY_SECONDS)


def _own_last(pids: Iterable[int]) -> list[int]:
    """Our own tables change until we are done."""
    return sorted(pids, key=lambda pid: (pid == os.getpid(), pid))


def _in_rounds(directory: Path) -> Iterator[Target]:
    seen: set[int] = set()
    for _ in range(CGROUP_ROUNDS):
        new = cgroup.processes(directory) - seen
        if not new:
            return
        seen |= new
        yield from map(Target, _own_last(new))
