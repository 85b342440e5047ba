# SPDX-License-Identifier: MIT
"""Figures of stored proofs, as Markdown."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import markdown

from cleanup.lab import SOURCES
from experiments.document import AnyDocument

PROOFS = Path(__file__).parents[2] / "evidence/proofs"


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
    return "\n".join(markdown.table(headings, ("---", "---", "---:", "---"), sorted(rows)))


def target(name: str) -> str:
    """The Makefile's, of a proof's document by its file's name."""
    proof, _, kernel = name.removesuffix(".json").removesuffix("-kcsan").rpartition("-")
    if name.endswith("-kcsan.json"):
        proof = "races"
    elif proof == "stale-zeros":
        proof = "zeros"
    elif proof.startswith("fuzz-"):
        proof = "fuzz"
    return f"{proof}-{kernel}" if kernel in SOURCES else proof


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
            "; KCSAN, which reported a race made on purpose, watched "
            f"{one['watchpoints']:,} accesses: no race with the module in it, "
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
    if "layouts" in one:
        of = f"over {one['layouts']:,} random layouts, {one['freed']:,} tables freed"
    elif one["changed"]:
        of = f"with random arguments, {one['changed']:,} of which another process changed meanwhile"
    else:
        of = f"with random arguments, {one['succeeded']:,} carried out"
    return f"{one['calls']:,} calls {of}: every answer is one that the model allows"


# By the first word of a document's `proof`.  Only what passed is kept.
FOUND: dict[str, Callable[[dict[str, Any]], str]] = {
    "fuzz": _of_fuzzing,
    "selftests": _of_selftests,
    "shim": _of_shim_storms,
    "stale": _of_zeros,
    "storms": _of_storms,
    "upstream": _of_upstream,
}
