# SPDX-License-Identifier: MIT
"""Who holds how much memory in page tables."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from cleanup.errors import ProcessGone
from cleanup.proc import kilobytes


@dataclass(frozen=True, slots=True)
class PageTables:
    """Memory of one process, in bytes, all of one reading of /proc/PID/status.

    `vmpte_bytes` is what its page tables take (VmPTE: PTE, PMD and PUD tables, full or empty),
    `rss_bytes` its resident and `vmsize_bytes` its mapped memory (VmRSS, VmSize). All are 0 for a
    zombie and for a kernel thread, which have no address space.
    """

    pid: int
    vmpte_bytes: int
    rss_bytes: int
    vmsize_bytes: int


def page_tables(pid: int | None = None) -> PageTables:
    """The page-table memory of process `pid`, by default this one.

    Needs no module and no privilege. Raises ProcessGone.
    """
    if pid is None:
        pid = os.getpid()
    try:
        status = kilobytes(Path(f"/proc/{pid}/status"))
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessGone(errno.ESRCH, f"pid {pid}: no such process") from error
    return PageTables(pid, *(status.get(name, 0) for name in ("VmPTE", "VmRSS", "VmSize")))


def name_of(pid: int) -> str:
    """The process's name. Raises ProcessGone."""
    try:
        return psutil.Process(pid).name()
    except psutil.NoSuchProcess as error:
        raise ProcessGone(errno.ESRCH, f"pid {pid}: no such process") from error
