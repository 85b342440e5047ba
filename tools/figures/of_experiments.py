# SPDX-License-Identifier: MIT
"""Figures of stored experiments, as Markdown."""

import io
from collections.abc import Sequence
from pathlib import Path

import markdown
from rich.console import Console

from cleanup.units import format_size
from experiments import document as documents
from experiments import growth, savings, table
from experiments.designs import table as designs
from experiments.document import Document, measured_of, of

RESULTS = Path(__file__).parents[2] / "evidence/experiments"
# The results of a sweep over sizes, one document for each run.
SIZES = RESULTS / "sizes"
# Qi Zheng, "Free user PTE page table pages", 2021: VmPTE 110 GB, of which 1.2 GB was needed.
PUBLISHED_BYTES = 110e9 - 1.2e9


class Unknown(Exception):
    """A mark asks for a result that is not stored."""


def as_printed(stored: Sequence[Document], *arguments: str) -> str:
    """Return what `experiment run` prints of named experiments on a kernel."""
    *names, kernel = arguments
    found = [_find(stored, name, kernel) for name in names]
    console = Console(file=io.StringIO(), width=80, highlight=False, markup=False, record=True)
    table.show(found, console)
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    return "\n".join(["```console", *lines, "```", "", _made_by(found)])


def as_savings(stored: Sequence[Document], kernel: str) -> str:
    """Return the table of the page tables that each workload leaves empty, and that are freed."""
    found = [one for one in stored if is_on(one, kernel)]
    (one,) = savings.on_kernels(found)
    command = f"pgtable-cleanup experiment run --all --kernel {kernel}"
    alignment = ("---", "---:", "---:", "---:", "---")
    return "\n".join(
        [
            *markdown.table(savings.HEADINGS, alignment, map(savings.row, one.savings)),
            "",
            savings.verdict(one),
            "",
            f"*Linux {one.kernel}: `{command}`*",
        ]
    )


def as_part(stored: Sequence[Document], name: str, kernel: str) -> str:
    """Return one experiment's table on a kernel, and what it claims."""
    found = _find(stored, name, kernel)
    part, measured = measured_of(found)
    shown = table.table(found)
    return "\n".join(
        [
            f"| {part.title(measured)} | |",
            "|---|---|",
            *(f"| {' | '.join(row)} |" for row in shown.rows),
            "",
            *(f"- {claim}" for claim in shown.claims),
            "",
            _made_by([found]),
        ]
    )


def as_extrapolation(stored: Sequence[Document], kernel: str) -> str:
    """Extrapolate from the price of freeing one table to the published case of 110 GB of tables."""
    found = _find(stored, "reclaim-cost/instructions", kernel)
    _, measured = measured_of(found)
    price = measured["methods"]["module"]["instructions_per_table"]["median"]
    tables = PUBLISHED_BYTES / 4096
    return (
        "**Extrapolated, not measured:** the series' cover letter reports a service with 55 TB "
        "mapped and 110 GB of page tables, of which 1.2 GB was needed: the rest are "
        f"{tables / 1e6:.1f} million tables. At {price:,.0f} instructions each, as counted on "
        f"Linux {found['kernel']}, freeing them takes {price * tables / 1e9:,.0f} billion "
        "instructions. "
        "The number of holds of a lock grows likewise, and their length does not."
    )


def as_designs(stored: Sequence[Document]) -> str:
    """Return the table of all methods."""
    found = [*of(stored, "designs/atomics"), *of(stored, "designs/when")]
    alignment = ("---",) * len(designs.HEADINGS)
    made_by = (_made_by([one]) for one in found)
    lines = markdown.table(designs.HEADINGS, alignment, designs.rows(found))
    return "\n".join([*lines, "", *made_by])


def as_growth(_: Sequence[Document], workload: str, kernel: str) -> str:
    """Return a table with a row for each size of a sweep, and how steeply its figures grow."""
    measured = [one for one in measured_at_sizes() if is_on(one, kernel)]
    group = growth.curves(measured).get(workload)
    if not group:
        raise Unknown(f"no three sizes of {workload} on {kernel} are in {SIZES}")
    repeats = max(len(measured_of(one)[1]["runs"]) for one in measured)
    command = f"pgtable-cleanup experiment sweep {workload} --kernel {kernel} --repeat {repeats}"
    sizes = " ".join(f"--size {format_size(size)}" for size in group[0].mapped_bytes)
    return "\n".join(
        [
            *markdown.table(growth.HEADINGS, ("---:",) * len(growth.HEADINGS), growth.rows(group)),
            "",
            f"*Linux {group[0].kernel}: `{command} {sizes}`*",
        ]
    )


def measured_at_sizes() -> list[Document]:
    """Return the stored results of the sweep over sizes."""
    return documents.read_all(SIZES)


def is_on(document: Document, kernel: str) -> bool:
    """Say whether a result was measured on that kernel in the lab, or for `host` on the host."""
    if kernel == "host":
        return document["accelerator"] == "host"
    return document["accelerator"] != "host" and document["kernel"].startswith(f"{kernel}.")


def _find(stored: Sequence[Document], name: str, kernel: str) -> Document:
    for document in stored:
        if document["part"] == name and is_on(document, kernel):
            return document
    raise Unknown(f"no result of {name} on {kernel} is in {RESULTS}")


def _made_by(found: Sequence[Document]) -> str:
    names = " ".join(document["part"] for document in found)
    kernel = ".".join(found[0]["kernel"].split(".")[:2])
    where = "--host" if found[0]["accelerator"] == "host" else f"--kernel {kernel}"
    return f"*Linux {found[0]['kernel']}: `pgtable-cleanup experiment run {names} {where}`*"
