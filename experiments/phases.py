# SPDX-License-Identifier: MIT
"""The phases of a workload's run, and what is measured of them: bytes and seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NotRequired, TypedDict

PHASES = ("start", "touched", "released", "cleaned")
GRANULARITIES: Mapping[str, int] = {"4k": 4 << 10, "64k": 64 << 10, "2m": 2 << 20}
# The granularity of a workload that has no release calls of a chosen size.
NO_RELEASE = "-"
TOUCHES = ("one", "all")
METHODS = ("none", "zap", "module")
"""The methods by which a workload's tables are freed; `none` frees none."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one run of a workload.

    `size_bytes` are mapped; `granularity` is the size of each release call (NO_RELEASE: there
    are none), `touch` is how many pages of each 2 MiB are touched; `seed` chooses pages and
    contents. A `quick` run is to take seconds.
    """

    size_bytes: int
    granularity: str
    touch: str
    seed: int
    quick: bool


class Phase(TypedDict):
    """Figures at the end of a phase; `seconds` is the time of its work, without measuring."""

    vmpte_bytes: int
    pagetables_bytes: int
    rss_bytes: int
    seconds: float


class Run(TypedDict):
    """One run of a workload with one method.

    The oracle counts `empty_tables`, the PTE tables that were empty before the cleaning, and
    `empty_tables_after`, those that were empty after it (with method module, tables of any level).
    It also counts `empty_upper_tables`: PMD and PUD tables that map nothing, which go once the PTE
    tables are gone. If a workload drops zero pages, tables that map only those count as empty.
    `freed` is the module's own count by level; for other methods it is the fall of VmPTE, in
    tables, whether these were empty or not. `tlb_shootdowns` were counted in a rehearsal over
    `tlb_tables` empty tables. `counts` are further numbers that the workload reports. `violations`
    names the invariants that failed.
    """

    method: str
    granularity: str
    repeat: int
    phases: dict[str, Phase]
    empty_tables: int
    empty_tables_after: int
    empty_upper_tables: dict[str, int]
    freed: dict[str, int]
    skipped: dict[str, int]
    contents_intact: bool
    survivors: int
    counts: dict[str, int]
    tlb_shootdowns: int
    tlb_tables: int
    flushes: NotRequired[int]
    longest_hold_ns: NotRequired[int]
    violations: list[str]
