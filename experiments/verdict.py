# SPDX-License-Identifier: MIT
"""What the figures say, in a sentence for each backend."""

from dataclasses import dataclass
from typing import Literal

from cleanup.experiments.document import Document
from cleanup.experiments.summary import Summary, seconds_text, size_text, summaries


@dataclass(frozen=True, slots=True)
class Verdict:
    """`kind` says whether memory was gained, none was, or the run broke an invariant."""

    kind: Literal["gain", "no gain", "failure"]
    experiment: str
    kernel: str
    granularity: str
    backend: str
    text: str


def verdicts(document: Document) -> list[Verdict]:
    """One for each backend and granularity."""
    return [
        Verdict(
            kind,
            document["experiment"],
            document["kernel"],
            summary.granularity,
            summary.backend,
            text,
        )
        for summary in summaries(document)
        for kind, text in [_judge(summary)]
    ]


def _judge(summary: Summary) -> tuple[Literal["gain", "no gain", "failure"], str]:
    run = summary.first
    if summary.violations:
        return "failure", "; ".join(dict.fromkeys(summary.violations)) + "."
    before, released, after = (
        summary.vmpte_bytes[phase] for phase in ("start", "released", "cleaned")
    )
    empty = run["empty_tables"]
    if summary.freed_tables == 0:
        if empty == 0:
            return "no gain", (
                "nothing is left to gain: the kernel freed the tables itself as the memory was "
                f"released, {size_text(released)} remain."
            )
        return "no gain", (
            f"nothing was freed: {empty} empty tables stay, {size_text(released)} in all, for "
            f"{size_text(run['phases']['released']['rss_bytes'])} of resident memory."
        )
    share = (after - before) / (released - before)
    text = (
        f"{size_text(released)} of page tables became {size_text(after)}: "
        f"{100 * share:.2g} % of what the workload had added remains. "
        f"{run['freed']['pte']} of {empty} empty PTE tables were freed, "
        f"in {seconds_text(summary.seconds['cleaned'])}"
    )
    if run["survivors"]:
        text += f"; all {run['survivors']} surviving pages are intact"
    return "gain", text + "."
