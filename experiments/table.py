# SPDX-License-Identifier: MIT
"""What was measured, on the terminal: a before/after table, or those of a suite."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from experiments.document import AnyDocument, Document, SuiteDocument, is_suite
from experiments.suite import show as suite
from experiments.summary import size_text, summaries
from experiments.workload import PHASES


def show(documents: Sequence[AnyDocument], console: Console | None = None) -> None:
    """Print a table for each document, and what they leave out, by default on standard output."""
    console = console or Console(highlight=False, markup=False)
    known = [document for document in documents if suite.is_known(document)]
    for document in known:
        if is_suite(document):
            _show_suite(console, document)
            continue
        console.print(
            f"{document['experiment']}: VmPTE under "
            f"{size_text(document['parameters']['size_bytes'])} mapped, "
            f"Linux {document['kernel']} ({document['accelerator']})"
        )
        console.print(table(document))
        console.print()
    for note in notes(known):
        console.print(note)


def _show_suite(console: Console, document: SuiteDocument) -> None:
    console.print(
        f"{document['experiment']}: Linux {document['kernel']} ({document['accelerator']})"
    )
    for section in suite.sections(document):
        console.print(f"\n{section.name}: {section.description}")
        made = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
        for label, value in section.rows:
            made.add_row(label, value)
        console.print(made)
        for claim in section.claims:
            console.print(suite.claim_text(claim))
    console.print()


def table(document: Document) -> Table:
    """VmPTE by phase of every run, what was freed of what was empty, and the median time.

    `call` is the size of each release call.
    """
    made = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    # Eighty columns hold all of it.
    for heading in ("call", "backend"):
        made.add_column(heading, no_wrap=True)
    for heading in ("before", "peak", "released", "cleaned", "freed/empty", "time"):
        made.add_column(heading, justify="right", no_wrap=True)
    made.add_column("data", no_wrap=True)
    for summary in summaries(document):
        run = summary.first
        made.add_row(
            summary.granularity,
            summary.backend,
            *(size_text(summary.vmpte_bytes[phase]) for phase in PHASES),
            f"{summary.freed_tables}/{summary.empty_tables}",
            "" if summary.backend == "none" else f"{summary.seconds['cleaned'].median:.3f} s",
            "intact" if run["contents_intact"] else "CHANGED",
        )
    return made


def notes(documents: Sequence[AnyDocument]) -> list[str]:
    """A line each."""
    lines = []
    for document in documents:
        kernel = f"Linux {document['kernel']}"
        if document["kernel_pt_reclaim"]:
            lines.append(f"{kernel} frees the tables under whole 2 MiB units itself (PT_RECLAIM)")
        for name, reason in document["unavailable"].items():
            lines.append(f"{kernel}: no {name}: {reason.split(';', 1)[0]}")
        if is_suite(document) and any(guest["icount"] for guest in document["guests"]):
            lines.append("instructions are a guest's, each iteration of a rep counted as one")
        if document["accelerator"] == "tcg":
            lines.append("times are an emulator's (TCG), not hardware's")
    return list(dict.fromkeys(lines))
