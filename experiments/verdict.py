# SPDX-License-Identifier: MIT
"""What the figures say, in a sentence or two for each backend."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.document import Document
from experiments.summary import Summary, size_text, summaries

Kind = Literal["failure", "gain", "no gain"]
_KINDS: Sequence[Kind] = ("failure", "gain", "no gain")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`kind` says whether memory was gained, none was, or an invariant was broken."""

    kind: Kind
    experiment: str
    kernel: str
    backend: str
    granularities: tuple[str, ...]
    text: str


def verdicts(documents: Sequence[Document]) -> list[Verdict]:
    """One for each backend and outcome of each document, failures first."""
    found = []
    for document in documents:
        groups: dict[tuple[str, Kind], list[Summary]] = {}
        for summary in summaries(document):
            groups.setdefault((summary.backend, _kind(summary)), []).append(summary)
        found += [
            Verdict(
                kind,
                document["experiment"],
                document["kernel"],
                backend,
                tuple(summary.granularity for summary in group),
                {"failure": _failure, "gain": _gain, "no gain": _no_gain}[kind](group),
            )
            for (backend, kind), group in groups.items()
        ]
    return sorted(found, key=lambda verdict: _KINDS.index(verdict.kind))


def _kind(summary: Summary) -> Kind:
    if summary.violations:
        return "failure"
    return "gain" if summary.freed_tables else "no gain"


def _failure(group: Sequence[Summary]) -> str:
    broken = (violation for summary in group for violation in summary.violations)
    return "; ".join(dict.fromkeys(broken)) + "."


def _gain(group: Sequence[Summary]) -> str:
    worst = max(group, key=lambda summary: summary.remaining_bytes)
    before, released, after = (
        worst.vmpte_bytes[phase] for phase in ("start", "released", "cleaned")
    )
    share = 100 * (after - before) / (released - before)
    text = (
        f"{size_text(released)} of page tables became {size_text(after)}; of what the workload "
        f"had added {share:.2g} % remains. {worst.first['freed']['pte']} of "
        f"{worst.first['empty_tables']} empty PTE tables were freed"
    )
    if worst.first["survivors"]:
        text += f", and all {worst.first['survivors']} surviving pages are intact"
    return text + "."


def _no_gain(group: Sequence[Summary]) -> str:
    worst = max(group, key=lambda summary: summary.vmpte_bytes["cleaned"])
    empty = worst.first["empty_tables"]
    left = size_text(worst.vmpte_bytes["cleaned"])
    if empty:
        resident = size_text(worst.first["phases"]["cleaned"]["rss_bytes"])
        return (
            f"frees nothing: {empty} empty tables stay, {left} of page tables in all beside "
            f"{resident} of resident memory."
        )
    return (
        "nothing is left to gain: the kernel freed the tables itself as the memory was released; "
        f"{left} remain."
    )
