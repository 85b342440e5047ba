# SPDX-License-Identifier: MIT
"""Figures of stored experiments, as Markdown."""

import io
from collections.abc import Sequence
from pathlib import Path

import markdown
from rich.console import Console

from experiments import document as documents
from experiments import savings, scale, table
from experiments.designs import table as designs
from experiments.document import AnyDocument, is_suite
from experiments.suite.show import claim_text, sections

RESULTS = Path(__file__).parents[2] / "docs/results"
# A sweep's, a run each.
SCALE = RESULTS / "scale"
# Qi Zheng, "Free user PTE page table pages", 2021: VmPTE 110 GB, of which 1.2 GB was needed.
PUBLISHED_BYTES = 110e9 - 1.2e9


class Unknown(Exception):
    """A mark that asks for what is not there."""


def as_printed(stored: Sequence[AnyDocument], *arguments: str) -> str:
    """What `experiment run` prints of workloads."""
    *names, kernel = arguments
    found = [_find(stored, name, kernel) for name in names]
    console = Console(file=io.StringIO(), width=80, highlight=False, markup=False, record=True)
    table.show(found, console)
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    return "\n".join(["```console", *lines, "```", "", _made_by(found)])


def as_savings(stored: Sequence[AnyDocument], kernel: str) -> str:
    """The table of all workloads."""
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


def as_part(stored: Sequence[AnyDocument], suite: str, part: str, kernel: str) -> str:
    """The rows and the claims of a part."""
    found = _find(stored, suite, kernel)
    if not is_suite(found):
        raise Unknown(f"{suite} is no suite")
    section = next((one for one in sections(found) if one.name == part), None)
    if section is None:
        raise Unknown(f"no part {part} of {suite} on {kernel} is in {RESULTS}")
    return "\n".join(
        [
            f"| {section.description} | |",
            "|---|---|",
            *(f"| {label} | {value} |" for label, value in section.rows),
            "",
            *(f"- {claim_text(claim)}" for claim in section.claims),
            "",
            _made_by([found], f" --part {part}"),
        ]
    )


def as_extrapolation(stored: Sequence[AnyDocument], kernel: str) -> str:
    """The case that the series was written for, at the price that was measured for a table."""
    found = _find(stored, "reclaim-cost", kernel)
    if not is_suite(found):
        raise Unknown("reclaim-cost is a suite")
    module = found["parts"]["contenders"]["contenders"]["module"]
    price = module["instructions_per_table"]["median"]
    tables = PUBLISHED_BYTES / 4096
    return (
        "**Extrapolated, not measured:** the series' cover letter reports a service with 55 TB "
        "mapped and 110 GB of page tables, of which 1.2 GB was needed: the rest are "
        f"{tables / 1e6:.1f} million tables. At {price:,.0f} instructions each, as counted on "
        f"Linux {found['kernel']}, freeing them takes {price * tables / 1e9:,.0f} billion "
        "instructions. "
        "The number of holds of a lock grows likewise, and their length does not."
    )


def as_designs(stored: Sequence[AnyDocument]) -> str:
    """The table of all designs."""
    found = [one for one in stored if is_suite(one) and one["experiment"] == "designs"]
    alignment = ("---",) * len(designs.HEADINGS)
    made_by = (_made_by([one]) for one in found)
    lines = markdown.table(designs.HEADINGS, alignment, designs.rows(found))
    return "\n".join([*lines, "", *made_by])


def as_scale(_: Sequence[AnyDocument], workload: str, kernel: str) -> str:
    """A row for each size of a sweep, and how steeply they grow."""
    measured = [one for one in measured_at_sizes() if is_on(one, kernel)]
    group = scale.curves(measured).get(workload)
    if not group:
        raise Unknown(f"no three sizes of {workload} on {kernel} are in {SCALE}")
    repeats = max(len(one["runs"]) for one in measured)
    command = f"pgtable-cleanup experiment sweep {workload} --kernel {kernel} --repeat {repeats}"
    sizes = " ".join(f"--size {size >> 20}m" for size in group[0].mapped_bytes)
    return "\n".join(
        [
            *markdown.table(scale.HEADINGS, ("---:",) * len(scale.HEADINGS), scale.rows(group)),
            "",
            f"*Linux {group[0].kernel}: `{command} {sizes}`*",
        ]
    )


def measured_at_sizes() -> list[documents.Document]:
    """Those of the sweep."""
    return [one for one in documents.read_all(SCALE) if not is_suite(one)]


def is_on(document: AnyDocument, kernel: str) -> bool:
    """Whether it is of a kernel of the lab, or for `host` of this project's development host."""
    if kernel == "host":
        return document["accelerator"] == "host"
    return document["accelerator"] != "host" and document["kernel"].startswith(f"{kernel}.")


def _find(stored: Sequence[AnyDocument], name: str, kernel: str) -> AnyDocument:
    for document in stored:
        if document["experiment"] == name and is_on(document, kernel):
            return document
    raise Unknown(f"no result of {name} on {kernel} is in {RESULTS}")


def _made_by(found: Sequence[AnyDocument], more: str = "") -> str:
    names = " ".join(document["experiment"] for document in found)
    kernel = ".".join(found[0]["kernel"].split(".")[:2])
    where = "--host" if found[0]["accelerator"] == "host" else f"--kernel {kernel}"
    return f"*Linux {found[0]['kernel']}: `pgtable-cleanup experiment run {names} {where}{more}`*"
