# SPDX-License-Identifier: MIT
"""Tables of documents for terminal and report, and how they are printed on a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as Columns

from experiments.document import Document, measured_of
from experiments.part import Row, claim_text

_TIMES = ("time", "before", "peak", "released", "cleaned", "freed/empty")


@dataclass(frozen=True, slots=True)
class Table:
    """The table of a document, in texts for people."""

    title: str
    place: str
    headings: Row
    rows: Sequence[Row]
    claims: Sequence[str]
    details: Sequence[str]


def table(document: Document) -> Table:
    """Return the table of a document that has measured something."""
    part, measured = measured_of(document)
    return Table(
        title=f"{part.name}: {part.title(measured)}",
        place=f"Linux {document['kernel']} ({document['accelerator']})",
        headings=part.headings,
        rows=part.rows(measured),
        claims=[claim_text(claim) for claim in document["claims"]],
        details=part.details(measured),
    )


def show(documents: Sequence[Document], console: Console | None = None) -> None:
    """Print a table for each document and notes on all, by default to standard output."""
    console = console or Console(highlight=False, markup=False)
    for document in documents:
        if document["measured"] is None:
            continue
        shown = table(document)
        console.print(f"{shown.title}, {shown.place}")
        columns = Columns(
            box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=bool(shown.headings)
        )
        for heading in shown.headings:
            columns.add_column(
                heading, no_wrap=True, justify="right" if heading in _TIMES else "left"
            )
        for row in shown.rows:
            columns.add_row(*row)
        console.print(columns)
        for claim in shown.claims:
            console.print(claim)
        console.print()
    for note in notes(documents):
        console.print(note)


def notes(documents: Sequence[Document]) -> list[str]:
    """Return notes on all documents, a line each: what is missing, and what figures mean."""
    lines = []
    for document in documents:
        kernel = f"Linux {document['kernel']}"
        if document["kernel_pt_reclaim"]:
            lines.append(f"{kernel} frees the tables under whole 2 MiB units itself (PT_RECLAIM)")
        for name, reason in document["unavailable"].items():
            lines.append(f"{kernel}: no {name}: {reason.split(';', 1)[0]}")
        if document["scale"]["quick"]:
            lines.append("measured quickly: layouts are smaller, and no claim is judged")
        if document["machine"] and document["machine"]["icount"]:
            lines.append("instructions are a guest's, each iteration of a rep counted as one")
        elif document["accelerator"] == "tcg":
            lines.append("times are an emulator's (TCG), not hardware's")
        if document["clock"] and not document["clock"]["agree"]:
            lines.append(
                f"{document['part']}, {kernel}: the guest's clock took "
                f"{document['clock']['guest_seconds']:.1f} s, the host's "
                f"{document['clock']['host_seconds']:.1f} s: they DISAGREE, and its times do not "
                "count"
            )
    return list(dict.fromkeys(lines))
