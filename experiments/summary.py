# SPDX-License-Identifier: MIT
"""Summaries of the repeats of a workload's run, for tables, plots and the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.phases import PHASES, Run
from experiments.spread import spread


@dataclass(frozen=True, slots=True)
class Summary:
    """The repeats of one method at one granularity.

    Sizes, in bytes, and counts are those of the first run.
    """

    runs: Sequence[Run]

    @property
    def first(self) -> Run:
        """The run whose sizes and counts stand for all repeats."""
        return self.runs[0]

    @property
    def method(self) -> str:
        """The method of freeing page tables."""
        return self.first["method"]

    @property
    def granularity(self) -> str:
        """The size of each release call."""
        return self.first["granularity"]

    @property
    def vmpte_bytes(self) -> dict[str, int]:
        """VmPTE at the end of each phase."""
        return {phase: self.first["phases"][phase]["vmpte_bytes"] for phase in PHASES}

    @property
    def vmpte_spread_bytes(self) -> int:
        """The largest difference of VmPTE between runs in the same phase."""
        sizes = ([run["phases"][phase]["vmpte_bytes"] for run in self.runs] for phase in PHASES)
        return max(max(values) - min(values) for values in sizes)

    @property
    def seconds(self) -> dict[str, dict[str, Any]]:
        """The time of each phase over the repeats, as `spread` stores it."""
        return {
            phase: spread([run["phases"][phase]["seconds"] for run in self.runs])
            for phase in PHASES
        }

    @property
    def remaining_bytes(self) -> int:
        """VmPTE after the cleaning, above what it was before the mapping."""
        return self.vmpte_bytes["cleaned"] - self.vmpte_bytes["start"]

    @property
    def freed_tables(self) -> int:
        """Tables of all levels that the method freed."""
        freed = self.first["freed"]
        return freed["pte"] + freed["pmd"] + freed["pud"]

    @property
    def empty_tables(self) -> int:
        """Tables of all levels that mapped nothing before the cleaning."""
        upper = self.first["empty_upper_tables"]
        return self.first["empty_tables"] + upper["pmd"] + upper["pud"]


def summaries(runs: Sequence[Run]) -> list[Summary]:
    """Return a summary for each method and granularity, in the order they were run."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run["granularity"], run["method"]), []).append(run)
    return [Summary(group) for group in groups.values()]


def details(one: Summary) -> str:
    """Return, in a sentence, the figures that a table of phases has no room for."""
    first, phases = one.first, one.first["phases"]
    said = [
        f"touching took {seconds_text(one.seconds['touched'])}",
        f"releasing {seconds_text(one.seconds['released'])}",
    ]
    if one.method != "none":
        said += [
            f"cleaning {seconds_text(one.seconds['cleaned'])}",
            f"{first['tlb_shootdowns']} TLB shootdowns for {first['tlb_tables']} tables",
        ]
    if "flushes" in first:
        said += [
            f"{first['flushes']} flushes",
            f"the longest lock hold {first['longest_hold_ns'] / 1e6:.1f} ms",
        ]
    resident = (size_text(phases[phase]["rss_bytes"]) for phase in ("touched", "cleaned"))
    said += [
        "resident " + " touched and ".join(resident) + " cleaned",
        f"the machine's page tables {size_text(phases['cleaned']['pagetables_bytes'])} at the end",
        *(f"{name} {count}" for name, count in first["counts"].items()),
    ]
    if len(one.runs) > 1:
        spread = size_text(one.vmpte_spread_bytes)
        said.append(f"over {len(one.runs)} runs VmPTE of a phase differed by at most {spread}")
    return ", ".join(said)


def size_text(size_bytes: float) -> str:
    """Return a size for people, to three digits: 4.60 MiB; kB are of 1024 bytes."""
    size, unit = size_bytes / 1024, "kB"
    for larger in ("MiB", "GiB", "TiB"):
        if size >= 1024:
            size, unit = size / 1024, larger
    if unit == "kB" or size >= 100:
        return f"{size:.0f} {unit}"
    return f"{size:.1f} {unit}" if size >= 10 else f"{size:.2f} {unit}"


def seconds_text(seconds: dict[str, Any]) -> str:
    """Return a time for people: the median, with the least and most if the repeats differ."""
    median, least, most = (duration_text(seconds[name]) for name in ("median", "min", "max"))
    return median if seconds["min"] == seconds["max"] else f"{median} ({least} to {most})"


def duration_text(seconds: float) -> str:
    """Return a time for people: 1.15 s, 13 ms."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"
