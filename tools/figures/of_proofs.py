# SPDX-License-Identifier: MIT
"""Figures of stored proofs, as Markdown."""

from collections.abc import Callable, Sequence
from typing import Any

import markdown

from experiments.document import Document
from proof import evidence
from proof.mutations import table


def as_proofs(_: Sequence[Document]) -> str:
    """Return a table with a line for each full-length proof and kernel, and for each fuzzer."""
    rows = [
        (one["kernel"], f"`make prove-{one['proof']}-{one['line']}`", seconds, found)
        for one in evidence.read_all()
        if one["scale"] == "long"
        for seconds, found in _lines(one)
    ]
    headings = ("kernel", "proof", "seconds", "found")
    return "\n".join(markdown.table(headings, ("---", "---", "---:", "---"), sorted(rows)))


def as_mutations(_: Sequence[Document]) -> str:
    """Return the table of docs/mutations.md, with a line for each protection and kernel."""
    return table.markdown(
        [
            verdict
            for one in evidence.read_all()
            if one["proof"] == "mutations" and one["scale"] == "long"
            for verdict in one["mutations"]
        ]
    )


def _lines(one: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the seconds that a proof took and what it found; for fuzzing, those of each fuzzer."""
    if one["proof"] == "fuzz":
        return [(f"{each['seconds']:,.0f}", _of_fuzzing(each)) for each in one["fuzzers"].values()]
    seconds = "" if one["seconds"] is None else f"{one['seconds']:,.0f}"
    return [(seconds, FOUND[one["proof"]](one))]


def _of_mutations(one: dict[str, Any]) -> str:
    verdicts = one["mutations"]
    caught = sum(each["caught"] for each in verdicts)
    fewest = min(each["caught_runs"] for each in verdicts)
    runs = verdicts[0]["runs"]
    return f"{caught} of {len(verdicts)} caught, in {fewest} of {runs} runs at least"


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
        ("allocations", "allocations"),
        ("frees", "frees"),
        ("sets", "keys of redis set"),
        ("deletes", "deleted"),
        ("snapshots", "snapshots of redis"),
        ("hook_units", "units given back by jemalloc's hooks"),
        ("freed_pte", "tables freed by the module"),
    ):
        total = sum(each.get(name, 0) for each in storms)
        told += f", {total:,} {what}" if total else ""
    faults = len(one.get("faults", {}))
    return told + (f"; {faults} faults put into the library were noticed" if faults else "")


def _of_chromium(one: dict[str, Any]) -> str:
    return (
        f"Chromium {one['chromium']} as an ordinary user, sandboxed: the same document with the "
        f"library, which {len(one['with']['renderers'])} renderers with a seccomp filter had"
    )


def _of_jemallocs_tests(one: dict[str, Any]) -> str:
    told = []
    for side, found in one["differences"].items():
        of = one["sides"][side]
        changed = sum(not each["unstable"] for each in found)
        tests = sum(of["tests"].values())
        told.append(
            f"{changed} of {tests:,} verdicts of {of['programs']} programs changed ({side})"
        )
    return "jemalloc's own tests: " + ", ".join(told)


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


# Functions that say what a proof found, by its name.  Only proofs that passed are stored.
FOUND: dict[str, Callable[[dict[str, Any]], str]] = {
    "chromium": _of_chromium,
    "jemalloc-tests": _of_jemallocs_tests,
    "mutations": _of_mutations,
    "races": _of_storms,
    "selftests": _of_selftests,
    "shim-storms": _of_shim_storms,
    "storms": _of_storms,
    "upstream": _of_upstream,
    "zeros": _of_zeros,
}
