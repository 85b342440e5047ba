# SPDX-License-Identifier: MIT
"""The oracle: counts the empty page tables of a halted process by what the kernel exports.

Every page table is one page of VmPTE.  A PTE table is live if its 2 MiB unit holds a
pagemap entry, a PMD table if its 1 GiB unit does, a PUD table if its 512 GiB unit
does; the rest, less the tables deposited under anonymous huge pages, is empty.  The
module's own counts are not used.

pagemap says nothing of PFNMAP mappings (vvar and the like), so a table that maps
nothing else looks empty: compare two readings of one process.
"""

import errno
import mmap
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from cleanup import _uapi
from cleanup.errors import CleanupError
from cleanup.proc import kilobytes
from experiments import _memory
from experiments.sparse import PAGE, UNIT, Bounds

_UNITS_PER_PMD_TABLE = 512
_UNITS_PER_PUD_TABLE = 512 * 512
# The bits of a pagemap entry that hold the page frame; the bit KPF_ZERO_PAGE of kpageflags.
_FRAME = (1 << 55) - 1
_ZERO_PAGE = 1 << 24


class OracleError(CleanupError):
    """The oracle can't count the empty page tables of a process."""


@dataclass(frozen=True, slots=True)
class Entries:
    """The 2 MiB units that hold a pagemap entry, and how many of them are huge pages."""

    units: frozenset[int]
    anonymous_huge: int = 0
    file_huge: int = 0


@dataclass(frozen=True, slots=True)
class Census:
    """Numbers of a process's page tables, each of which is one page.

    `pmd_empty` and `pud_empty` count the upper tables known to exist without an entry below them.
    """

    tables: int
    pte_live: int
    pmd_live: int
    pud_live: int
    deposited: int
    pmd_empty: int
    pud_empty: int

    @property
    def empty(self) -> int:
        """The number of empty tables of all levels."""
        live = self.pte_live + self.pmd_live + self.pud_live + self.deposited
        return self.tables - live

    @property
    def empty_pte(self) -> int:
        """The number of empty PTE tables."""
        return self.empty - self.pmd_empty - self.pud_empty


def total(censuses: Iterable[Census]) -> Census:
    """Return the sum of the censuses of several processes."""
    return Census(*map(sum, zip(*map(astuple, censuses), strict=True)))


def observe(pid: int, populated: Iterable[Bounds] = (), *, zero_pages: bool = True) -> Census:
    """Count the tables of `pid`, which must not run meanwhile.

    `populated` are address ranges of which every GiB has held a page: their PMD and PUD
    tables stay until they are unmapped, which tells these from empty PTE tables.  Upper tables
    that are empty outside such ranges are counted among the PTE tables.

    Without `zero_pages`, entries that map the shared zero page don't count: a table that
    holds no others is empty.

    Sources: VmPTE and HugetlbPages of /proc/PID/status, /proc/PID/maps, pagemap and
    smaps_rollup.  Raises OracleError where the process maps hugetlb pages, whose tables pagemap
    doesn't show, where the zero page can't be told from others, and where the process was seen to
    run; and OSError where /proc denies access.
    """
    status = kilobytes(Path(f"/proc/{pid}/status"))
    if status.get("HugetlbPages"):
        raise OracleError(f"process {pid} maps hugetlb pages: its tables can't be told by pagemap")
    found = census(status["VmPTE"], _entries(pid, zero_pages), populated)
    if found.empty < 0:
        raise OracleError(f"process {pid} made page tables while they were counted: halt it first")
    return found


def observe_halted(pid: int) -> Census:
    """Stop a process, count its tables, and continue it.  Raises the same errors as `observe`."""
    os.kill(pid, signal.SIGSTOP)
    try:
        while not _is_halted(pid):
            time.sleep(0.001)
        return observe(pid)
    finally:
        os.kill(pid, signal.SIGCONT)


def _is_halted(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task").glob("*/stat")
    # In a stat file the state follows the name in brackets, which may hold brackets and spaces.
    states = (task.read_text(encoding="utf-8").rpartition(")")[2].split()[0] for task in tasks)
    return all(state in "TtXZ" for state in states)


def census(vmpte_bytes: int, entries: Entries, populated: Iterable[Bounds] = ()) -> Census:
    """Return the census that follows from VmPTE and the entries that `observe` has read."""
    pmd_live = {unit // _UNITS_PER_PMD_TABLE for unit in entries.units}
    pud_live = {unit // _UNITS_PER_PUD_TABLE for unit in entries.units}
    pmd_known, pud_known = set(pmd_live), set(pud_live)
    for start, end in populated:
        pmd_known.update(_units(start, end, UNIT * _UNITS_PER_PMD_TABLE))
        pud_known.update(_units(start, end, UNIT * _UNITS_PER_PUD_TABLE))
    return Census(
        tables=vmpte_bytes // PAGE,
        # A huge page has no PTE table, but an anonymous one has a deposited table.
        pte_live=len(entries.units) - entries.anonymous_huge - entries.file_huge,
        pmd_live=len(pmd_live),
        pud_live=len(pud_live),
        deposited=entries.anonymous_huge,
        pmd_empty=len(pmd_known) - len(pmd_live),
        pud_empty=len(pud_known) - len(pud_live),
    )


def _units(start: int, end: int, size: int) -> range:
    return range(start // size, -(-end // size))


def _entries(pid: int, zero_pages: bool) -> Entries:
    ranges = _mapped(pid)
    pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            return scanned(pagemap, ranges, zero_pages=zero_pages)
        except OSError as error:
            if error.errno != errno.ENOTTY:  # Linux before 6.7 has no PAGEMAP_SCAN
                raise
        units = read(pagemap, ranges, zero_frame=0 if zero_pages else zero_frame())
    finally:
        os.close(pagemap)
    huge = kilobytes(Path(f"/proc/{pid}/smaps_rollup"))
    return Entries(
        units,
        anonymous_huge=huge["AnonHugePages"] // UNIT,
        file_huge=(huge["ShmemPmdMapped"] + huge["FilePmdMapped"]) // UNIT,
    )


def scanned(pagemap: int, ranges: Sequence[Bounds], *, zero_pages: bool = True) -> Entries:
    """Return the entries in `ranges` by PAGEMAP_SCAN.  Raises OSError: ENOTTY before Linux 6.7.

    Without `zero_pages`, those that map the shared zero page are left out.
    """
    found: set[int] = set()
    anonymous_huge = file_huge = 0
    for start, end in ranges:
        units, anonymous, file = _memory.scan_units(pagemap, start, end, zero_pages=zero_pages)
        found.update(units)
        anonymous_huge += anonymous
        file_huge += file
    return Entries(frozenset(found), anonymous_huge, file_huge)


def read(pagemap: int, ranges: Sequence[Bounds], *, zero_frame: int = 0) -> frozenset[int]:
    """Return the 2 MiB units with entries in `ranges`, by reading the pagemap.

    Entries that map the page frame `zero_frame`, if it isn't 0, are left out.
    """
    return frozenset(
        unit
        for start, end in ranges
        for unit in _memory.read_units(pagemap, start, end, zero_frame=zero_frame)
    )


def zero_frame() -> int:
    """Return the page frame of the shared zero page: reading a page never written maps it.

    /proc/kpageflags confirms it.  Raises OracleError without the privilege to see page frames.
    """
    with mmap.mmap(-1, PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        page[:1]
        entry = _number(Path("/proc/self/pagemap"), _uapi.address_of(page) // PAGE)
    frame = entry & _FRAME
    if not frame or not _number(Path("/proc/kpageflags"), frame) & _ZERO_PAGE:
        raise OracleError(
            "the zero page can't be told from others: before Linux 6.7 this takes CAP_SYS_ADMIN: "
            "run in the lab or as root"
        )
    return frame


def _number(path: Path, index: int) -> int:
    """Return the 64-bit number at an index in a file."""
    with path.open("rb", buffering=0) as file:
        file.seek(index * 8)
        return int.from_bytes(file.read(8), sys.byteorder)


def _mapped(pid: int) -> list[Bounds]:
    ranges = []
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    for line in maps.splitlines():
        start, end = (int(address, 16) for address in line.split(" ", 1)[0].split("-"))
        # [vsyscall] belongs to the kernel's half, whose tables VmPTE leaves out.
        if start < 1 << 63:
            ranges.append((start, end))
    return ranges
