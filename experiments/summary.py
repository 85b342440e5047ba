# SPDX-License-Identifier: MIT
"""The repeats of a run taken together, for tables, plots and the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from experiments.document import Document, Run
from experiments.workload import PHASES


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds over the repeats."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Summary:
    """One backend at one granularity.

    Sizes, in bytes, and counts are those of the first run; `vmpte_spread_bytes` is the
    largest difference that the others made to VmPTE of any phase.
    """

    backend: str
    granularity: str
    repeats: int
    first: Run
    vmpte_bytes: dict[str, int]
    vmpte_spread_bytes: int
    seconds: dict[str, Spread]
    violations: list[str]

    @property
    def remaining_bytes(self) -> int:
        """VmPTE after the cleaning, above what it was before the mapping."""
        return self.vmpte_bytes["cleaned"] - self.vmpte_bytes["start"]

    @property
    def freed_tables(self) -> int:
        """Tables of all levels that the backend freed."""
        freed = self.first["freed"]
        return freed["pte"] + freed["pmd"] + freed["pud"]

    @property
    def empty_tables(self) -> int:
        """Tables of all levels that mapped nothing before the cleaning."""
        upper = self.first["empty_upper_tables"]
        return self.first["empty_tables"] + upper["pmd"] + upper["pud"]


def summaries(document: Document) -> list[Summary]:
    """One for each backend and granularity, in the order they were run."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in document["runs"]:
        groups.setdefault((run["granularity"], run["backend"]), []).append(run)
    return [_summary(runs) for runs in groups.values()]


def _summary(runs: Sequence[Run]) -> Summary:
    first = runs[0]
    sizes = {phase: [run["phases"][phase]["vmpte_bytes"] for run in runs] for phase in PHASES}
    times = {phase: [run["phases"][phase]["seconds"] for run in runs] for phase in PHASES}
    return Summary(
        backend=first["backend"],
        granularity=first["granularity"],
        repeats=len(runs),
        first=first,
        vmpte_bytes={phase: values[0] for phase, values in sizes.items()},
        vmpte_spread_bytes=max(max(values) - min(values) for values in sizes.values()),
        seconds={
            phase: Spread(median(values), min(values), max(values))
            for phase, values in times.items()
        },
        violations=[violation for run in runs for violation in run["violations"]],
    )


def size_text(size_bytes: float) -> str:
    """A size for people, to three digits: 4.60 MiB; kB are of 1024 bytes."""
    size, unit = size_bytes / 1024, "kB"
    for larger in ("MiB", "GiB", "TiB"):
        if size >= 1024:
            size, unit = size / 1024, larger
    if unit == "kB" or size >= 100:
        return f"{size:.0f} {unit}"
    return f"{size:.1f} {unit}" if size >= 10 else f"{size:.2f} {unit}"


def seconds_text(spread: Spread) -> str:
    """A time for people, with its spread where the repeats differ."""
    text = duration_text(spread.median)
    if spread.least == spread.most:
        return text
    return f"{text} ({duration_text(spread.least)} to {duration_text(spread.most)})"


def duration_text(seconds: float) -> str:
    """A time for people: 1.15 s, 13 ms."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"
