# SPDX-License-Identifier: MIT
"""The cost of a scan of a whole process by the module, PAGEMAP_SCAN, or reading its pagemap."""

import errno
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cleanup import _uapi, device
from cleanup.errors import CleanupError
from experiments import _memory
from experiments.part import COUNTING, Claim, Measured, Part, Row, Scale, at_most
from experiments.sparse import UNIT, SparseMapping, sparse_mapping
from experiments.spread import spread, text

_TIB = 1 << 40
# ASLR puts the program at 85 TiB, or up to 1 TiB higher.  Of the 42 TiB above it ASLR may take
# 1 TiB again, and mappings that an earlier part left, such as stacks of threads, may split them.
_RESERVED_BYTES = (84 * _TIB, 36 * _TIB)
_POPULATED = 64
_EMPTY = 4096
_QUICK_EMPTY = 512
_READ_BYTES = 64 << 30
_QUICK_READ_BYTES = 4 << 30
_USER_END = (1 << 47) - 4096
_RUNS = 5

_SCAN_LIMIT = 1_000_000
_TABLE_LIMIT = 1_000


class WholeProcess(Part):
    name = "reclaim-cost/whole-process"
    description = "scan a process of 120 TiB reserved: the module, PAGEMAP_SCAN, its pagemap read"
    needs = COUNTING

    def measure(self, scale: Scale) -> Measured:
        """Scan the process with few tables, and then with thousands of empty ones more."""
        runs = scale.runs(_RUNS, 2)
        empty = scale.pick(_EMPTY, _QUICK_EMPTY)
        read_bytes = scale.pick(_READ_BYTES, _QUICK_READ_BYTES)
        lower_bytes, upper_bytes = _RESERVED_BYTES
        with (
            device.opened() as opened,
            # Reserve the address space once: later Python may have allocated memory in its place.
            sparse_mapping(lower_bytes, seed=scale.seed) as lower,
            sparse_mapping(upper_bytes, seed=scale.seed) as upper,
            Path("/proc/self/pagemap").open("rb", buffering=0) as file,
        ):
            fd, levels, pagemap = opened.fd, opened.features.levels, file.fileno()

            def scans(levels: int = levels) -> Measured:
                return _instructions(lambda: _scan(fd, levels), runs)

            scale.progress(f"{_POPULATED} tables side by side")
            lower.touch(0, _POPULATED)
            side_by_side = scans()
            lower.zap(0, _POPULATED)
            _uapi.call(fd, flags=_uapi.WHOLE_MM, levels=levels)
            _populate((lower, upper), scale.seed)
            scale.progress(f"{_POPULATED} tables all over")
            scan, scan_pte = scans(), scans(_uapi.LEVELS["pte"])
            tables = _scan(fd, levels)
            scale.progress("PAGEMAP_SCAN")
            pagemap_scan = _pagemap_scans(pagemap, runs)
            scale.progress(f"reading the pagemap of {read_bytes >> 30} GiB")
            # Nothing is populated in this range, so that it is the cheapest to read.
            start = upper.address
            read = _instructions(
                lambda: _memory.read_units(pagemap, start, start + read_bytes), runs
            )
            scale.progress(f"{empty} empty tables more")
            lower.touch_and_release(0, empty)
            more = scans()
            found = _scan(fd, levels).empty[0] - tables.empty[0]
        if found != empty:
            raise CleanupError(f"{found} empty tables were found where {empty} were made")
        per_table = spread([(run - scan["median"]) / empty for run in more["runs"]])
        whole = sum(_RESERVED_BYTES)
        return {
            "reserved_bytes": whole,
            "mappings": len(_RESERVED_BYTES),
            "populated_tables": _POPULATED,
            "tables_seen": dict(zip(_uapi.LEVELS, tables.tables, strict=False)),
            "scan_instructions": scan,
            "scan_pte_instructions": scan_pte,
            "scan_side_by_side_instructions": side_by_side,
            "pagemap_scan_instructions": pagemap_scan,
            "pagemap_read_bytes": read_bytes,
            "pagemap_read_instructions": read,
            "pagemap_read_whole_extrapolated_instructions": extrapolated(
                read["median"], read_bytes, whole
            ),
            "empty_tables": empty,
            "scan_instructions_per_empty_table": per_table,
        }

    def claims(self, measured: Measured) -> list[Claim]:
        whole, populated = measured["reserved_bytes"] >> 40, measured["populated_tables"]
        return [
            at_most(
                f"instructions of a scan of {whole} TiB, {populated} tables all over it",
                measured["scan_instructions"]["median"],
                _SCAN_LIMIT,
            ),
            at_most(
                "instructions of a scan for each empty table",
                measured["scan_instructions_per_empty_table"]["median"],
                _TABLE_LIMIT,
            ),
        ]

    def rows(self, measured: Measured) -> Sequence[Row]:
        whole = f"{measured['reserved_bytes'] >> 40} TiB"
        scan = f"module: scan {whole}, {measured['populated_tables']} tables"
        extrapolated = measured["pagemap_read_whole_extrapolated_instructions"]
        figures = {
            f"{scan} all over": "scan_instructions",
            f"{scan} side by side": "scan_side_by_side_instructions",
            "module: all over, PTE tables alone": "scan_pte_instructions",
            "module: each empty table more": "scan_instructions_per_empty_table",
            f"PAGEMAP_SCAN: {whole}": "pagemap_scan_instructions",
            f"read pagemap of {measured['pagemap_read_bytes'] >> 30} GiB": (
                "pagemap_read_instructions"
            ),
        }
        return [
            *(
                (
                    label,
                    text(measured[name], "instructions")
                    if measured[name]
                    else "not in this kernel (6.7 brought it)",
                )
                for label, name in figures.items()
            ),
            (f"read pagemap of {whole}, extrapolated", f"{extrapolated:,.0f} instructions"),
        ]


def extrapolated(measured: float, measured_bytes: int, whole_bytes: int) -> float:
    """Return the cost of `whole_bytes` if `measured_bytes` of the same kind cost `measured`."""
    return measured * whole_bytes / measured_bytes


def _populate(mappings: Sequence[SparseMapping], seed: int) -> None:
    """Touch random units, none at the start of a mapping: that stays free for later steps."""
    chooser = random.Random(seed)  # noqa: S311 -- to be the same at every run
    for mapping in mappings:
        for unit in chooser.sample(range(_READ_BYTES // UNIT, mapping.units), _POPULATED // 2):
            mapping.touch(unit, unit + 1)


def _scan(fd: int, levels: int) -> _uapi.Counts:
    counts = _uapi.call(fd, flags=_uapi.WHOLE_MM | _uapi.SCAN_ONLY, levels=levels)
    if counts.next_range != 1:
        raise CleanupError("a signal ended a scan early: measure again")
    return counts


def _pagemap_scans(pagemap: int, runs: int) -> Measured | None:
    """Return the instructions of PAGEMAP_SCAN, or None before Linux 6.7, which brought it."""
    try:
        return _instructions(lambda: _memory.scan_units(pagemap, 0, _USER_END), runs)
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
        return None


def _instructions(work: Callable[[], object], runs: int) -> Measured:
    """Return the instructions of `work` in several runs, after one that warms up."""
    work()
    counts = []
    for _ in range(runs):
        begin = time.monotonic_ns()
        work()
        counts.append(time.monotonic_ns() - begin)
    return spread(counts)


PART = WholeProcess()
