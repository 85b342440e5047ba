#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write the figures of README.md and docs/ anew, from the results stored.

Those of experiments are in docs/results/, those of proofs in results/.  A page has them between two
marks, and the first says which:

    <!-- figures: table series-50g tebibyte 6.12 -->     as the command prints it
    <!-- figures: savings 7.3 -->                        what each workload leaves, and is freed
    <!-- figures: part reclaim-cost contenders 7.3 -->   a part of a suite; `host` for the host's
    <!-- figures: extrapolation 7.3 -->                  what the published case would take
    <!-- figures: designs -->                            the table of all designs
    <!-- figures: proofs -->                             what the proofs of full length found
    <!-- /figures -->

With --check nothing is written, and the exit code is 1 where something would be.
"""

import argparse
import hashlib
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

from cleanup.experiments import document as documents
from cleanup.experiments import savings, table
from cleanup.experiments.designs import table as designs
from cleanup.experiments.document import AnyDocument, is_suite
from cleanup.experiments.suite.show import claim_text, sections
from cleanup.lab import SOURCES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs/results"
PROOFS = ROOT / "results"
PICTURE = ROOT / "docs/savings.png"
PICTURE_KERNEL = "7.3"
BLOCK = re.compile(r"(<!-- figures: (.+?) -->\n).*?(<!-- /figures -->)", re.DOTALL)


# Qi Zheng, "Free user PTE page table pages", 2021: VmPTE 110 GB, of which 1.2 GB was needed.
PUBLISHED_BYTES = 110e9 - 1.2e9


class Unknown(Exception):
    """A mark that asks for what is not there."""


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    checks = parser.parse_args().check
    stored = documents.read_all(RESULTS)
    stale = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        fresh = renewed(text, stored)
        if fresh != text:
            stale.append(page)
            if not checks:
                page.write_text(fresh, encoding="utf-8")
    if drawn_from(PICTURE) != digest(stored):
        stale.append(PICTURE)
        if not checks:
            draw(stored)
    for path in stale:
        sys.stderr.write(f"{'stale' if checks else 'written'}: {path.relative_to(ROOT)}\n")
    return 1 if stale and checks else 0


def renewed(text: str, stored: Sequence[AnyDocument]) -> str:
    """A page with the figures between its marks made anew."""

    def block(match: re.Match[str]) -> str:
        kind, *arguments = match[2].split()
        return f"{match[1]}{KINDS[kind](stored, *arguments)}\n{match[3]}"

    return BLOCK.sub(block, text)


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
    found = [one for one in stored if _is_on(one, kernel)]
    (one,) = savings.on_kernels(found)
    rows = [
        savings.HEADINGS,
        ("---", "---:", "---:", "---:", "---"),
        *map(savings.row, one.savings),
    ]
    return "\n".join(
        [
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            savings.verdict(one),
            "",
            f"*Linux {one.kernel}: `pgtable-cleanup experiment run --all --kernel {kernel}`*",
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
    rows = [designs.HEADINGS, ("---",) * len(designs.HEADINGS), *designs.rows(found)]
    made_by = (_made_by([one]) for one in found)
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", *made_by])


def as_proofs(_: Sequence[AnyDocument]) -> str:
    """A line for each proof and kernel."""
    found = [(path.name, json.loads(path.read_text())) for path in sorted(PROOFS.glob("*.json"))]
    rows = [
        (
            one["kernel"],
            f"`make {target(name)}`",
            f"{one['seconds']:,.0f}",
            FOUND[one["proof"].partition("-")[0]](one),
        )
        for name, one in found
        if "proof" in one
    ]
    verdicts = dict(found)["mutations.json"]["mutations"]
    for kernel in sorted({one["kernel"] for one in verdicts}):
        those = [one for one in verdicts if one["kernel"] == kernel]
        caught = sum(one["caught"] for one in those)
        runs = min(one["caught_runs"] for one in those)
        series = ".".join(kernel.split(".")[:2])
        told = f"{caught} of {len(those)} caught, in {runs} of {those[0]['runs']} runs at least"
        rows.append((kernel, f"`make mutations-{series}`", "", told))
    headings = ("kernel", "proof", "seconds", "found")
    table = [headings, ("---", "---", "---:", "---"), *sorted(rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


def target(name: str) -> str:
    """The Makefile's, of a proof's document by its file's name."""
    parts = name.removesuffix(".json").split("-")
    if parts[-1] == "kcsan":
        return f"races-{parts[-2]}"
    if parts[-1] not in SOURCES:
        return "-".join(parts[:-1])
    return f"{'zeros' if name.startswith('stale-zeros') else '-'.join(parts[:-1])}-{parts[-1]}"


def _of_storms(one: dict[str, Any]) -> str:
    cleaners = one["cleaners"]
    told = (
        f"nothing lost or reported over {sum(one['steps'].values()):,} steps of "
        f"{len(one['steps'])} stressors; freed {cleaners['freed pte']:,} PTE, "
        f"{cleaners['freed pmd']:,} PMD and {cleaners['freed pud']:,} PUD tables; "
        f"{cleaners['skipped refilled']:,} had filled again, "
        f"{cleaners['skipped contended']:,} locks were not to be had"
    )
    if "watchpoints" in one:
        races = sum(one["races_of_the_kernel"].values())
        told += (
            f"; KCSAN watched {one['watchpoints']:,} accesses: no race with the module in it, "
            f"{races:,} of the kernel's own"
        )
    return told


def _of_shim_storms(one: dict[str, Any]) -> str:
    storms = one["storms"].values()
    told = f"no byte lost in {len(storms)} storms of the preload library"
    for name, what in (
        ("steps", "steps"),
        ("signals", "signals"),
        ("forks", "forks"),
        ("snapshots", "snapshots of redis"),
        ("hook_units", "units given back by jemalloc's hooks"),
        ("freed_pte", "tables freed by the module"),
    ):
        total = sum(each.get(name, 0) for each in storms)
        told += f", {total:,} {what}" if total else ""
    return told


def _of_zeros(one: dict[str, Any]) -> str:
    return (
        f"{one['stale']} stale zeros in {one['rounds']:,} rounds, "
        f"{one['zero_pages_dropped']:,} zero pages dropped"
    )


def _of_upstream(one: dict[str, Any]) -> str:
    return f"{len(one['bugs'])} bugs, {one['runs_each']} runs each: the module has none of them"


def _of_selftests(one: dict[str, Any]) -> str:
    changed = sum(not each["unstable"] for each in one["differences"])
    return (
        f"{len(one['programs'])} programs, {one['tests']:,} verdicts: {changed} changed beside a "
        f"cleaner, which freed {sum(one['cleaner']['freed'].values()):,} tables"
    )


def _of_fuzzing(one: dict[str, Any]) -> str:
    layouts = f" over {one['layouts']:,} layouts" if "layouts" in one else ""
    return f"{one['calls']:,} calls{layouts}: every answer is the model's"


# By the first word of a document's `proof`.  Only what passed is kept.
FOUND: dict[str, Callable[[dict[str, Any]], str]] = {
    "fuzz": _of_fuzzing,
    "selftests": _of_selftests,
    "shim": _of_shim_storms,
    "stale": _of_zeros,
    "storms": _of_storms,
    "upstream": _of_upstream,
}

KINDS: dict[str, Callable[..., str]] = {
    "extrapolation": as_extrapolation,
    "designs": as_designs,
    "proofs": as_proofs,
    "table": as_printed,
    "savings": as_savings,
    "part": as_part,
}


def _is_on(document: AnyDocument, kernel: str) -> bool:
    if kernel == "host":
        return document["accelerator"] == "host"
    return document["accelerator"] != "host" and document["kernel"].startswith(f"{kernel}.")


def _find(stored: Sequence[AnyDocument], name: str, kernel: str) -> AnyDocument:
    for document in stored:
        if document["experiment"] == name and _is_on(document, kernel):
            return document
    raise Unknown(f"no result of {name} on {kernel} is in {RESULTS}")


def _made_by(found: Sequence[AnyDocument], more: str = "") -> str:
    names = " ".join(document["experiment"] for document in found)
    kernel = ".".join(found[0]["kernel"].split(".")[:2])
    where = "--host" if found[0]["accelerator"] == "host" else f"--kernel {kernel}"
    return f"*Linux {found[0]['kernel']}: `pgtable-cleanup experiment run {names} {where}{more}`*"


def digest(stored: Sequence[AnyDocument]) -> str:
    """Of what the picture shows."""
    (one,) = savings.on_kernels([one for one in stored if _is_on(one, PICTURE_KERNEL)])
    return hashlib.sha256(repr(one).encode()).hexdigest()


def draw(stored: Sequence[AnyDocument]) -> None:
    """The picture, which says in itself what it was drawn from."""
    (one,) = savings.on_kernels([one for one in stored if _is_on(one, PICTURE_KERNEL)])
    savings.draw(one).savefig(PICTURE, dpi=100, metadata={"Source": digest(stored)})


def drawn_from(picture: Path) -> str | None:
    """What `draw` had it say."""
    if not picture.exists():
        return None
    with Image.open(picture) as image:
        return str(image.info.get("Source"))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unknown as missing:
        sys.exit(f"{missing}: run it there, with --out {RESULTS}")
