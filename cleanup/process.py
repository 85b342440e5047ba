# SPDX-License-Identifier: MIT
"""Who holds how much memory in page tables."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from cleanup.errors import ProcessGone


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
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessGone(errno.ESRCH, f"pid {pid}: no such process") from error
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)

    def to_bytes(name: str) -> int:
        return int(fields.get(name, "0 kB").split()[0]) * 1024

    return PageTables(pid, to_bytes("VmPTE"), to_bytes("VmRSS"), to_bytes("VmSize"))


def name_of(pid: int) -> str:
    """The process's name. Raises ProcessGone."""
    try:
        return psutil.Process(pid).name()
    except psutil.NoSuchProcess as error:
        raise ProcessGone(errno.ESRCH, f"pid {pid}: no such process") from error
