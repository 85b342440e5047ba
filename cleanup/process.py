# SPDX-License-Identifier: MIT
"""How much memory a process holds in page tables."""

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from cleanup.errors import no_such_process
from cleanup.proc import kilobytes


@dataclass(frozen=True, slots=True)
class PageTables:
    """The memory of one process, in bytes. All figures are of one reading of /proc/PID/status.

    `vmpte_bytes` is what its page tables take (VmPTE: PTE, PMD and PUD tables, full or empty).
    `rss_bytes` is its resident memory (VmRSS) and `vmsize_bytes` its mapped memory (VmSize). All
    are 0 for a zombie and for a kernel thread, which have no address space.
    """

    pid: int
    vmpte_bytes: int
    rss_bytes: int
    vmsize_bytes: int


def page_tables(pid: int | None = None) -> PageTables:
    """Return how much memory the page tables of a process take.

    This needs neither the module nor a privilege::

        >>> cleanup.page_tables(4711).vmpte_bytes
        2151677952

    :param pid: the process; by default this one
    :raises ProcessGone: there is no such process
    :raises TypeError: `pid` is no int
    :raises ValueError: `pid` is below 1
    """
    pid = os.getpid() if pid is None else checked_pid(pid)
    try:
        status = kilobytes(Path(f"/proc/{pid}/status"))
    except (FileNotFoundError, ProcessLookupError) as error:
        raise no_such_process(pid) from error
    return PageTables(pid, *(status.get(name, 0) for name in ("VmPTE", "VmRSS", "VmSize")))


def checked_pid(pid: object) -> int:
    """Return `pid` if it can be one.

    Raises TypeError for anything but an int (and for a bool, which Python counts as one), and
    ValueError below 1.
    """
    if isinstance(pid, bool) or not isinstance(pid, int):
        raise TypeError(f"a pid is an int, not {pid!r}")
    if pid < 1:
        raise ValueError(f"a pid is at least 1, not {pid}")
    return pid


def name_of(pid: int) -> str:
    """Return the name of a process. Raises ProcessGone."""
    try:
        return psutil.Process(pid).name()
    except psutil.NoSuchProcess as error:
        raise no_such_process(pid) from error
