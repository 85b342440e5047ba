# SPDX-License-Identifier: MIT
"""An experiment's JSON: sizes in bytes, times in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypeAlias, TypedDict, cast

if TYPE_CHECKING:
    from typing_extensions import TypeIs

SCHEMA = 1


class Phase(TypedDict):
    """Figures at the end of a phase; `seconds` is the time the workload's own work took."""

    vmpte_bytes: int
    pagetables_bytes: int
    rss_bytes: int
    seconds: float


class Freed(TypedDict):
    """Tables by level."""

    pte: int
    pmd: int
    pud: int


class EmptyUpper(TypedDict):
    """PMD and PUD tables without an entry below them, which go once the PTE tables are gone."""

    pmd: int
    pud: int


class Run(TypedDict):
    """One run of the workload under one backend.

    `empty_tables` are the PTE tables empty before the cleaning and `empty_tables_after`
    (after the module: the tables of any level) those after it, `empty_upper_tables` the
    PMD and PUD tables that map nothing, all by the oracle; `freed` is the backend's own
    count where it has one, else the difference of the oracle's.  `tlb_shootdowns` were
    counted in a rehearsal over `tlb_tables` empty tables.  `counts` are the workload's
    own.  `violations` says which invariant failed.

    Where the backend drops zero pages, tables that hold nothing else count as empty.
    """

    backend: str
    granularity: str
    repeat: int
    phases: dict[str, Phase]
    empty_tables: int
    empty_tables_after: int
    empty_upper_tables: EmptyUpper
    freed: Freed
    skipped: dict[str, int]
    contents_intact: bool
    survivors: int
    counts: dict[str, int]
    tlb_shootdowns: int
    tlb_tables: int
    flushes: NotRequired[int]
    longest_hold_ns: NotRequired[int]
    violations: list[str]


class Header(TypedDict):
    """What every document says: one experiment on one kernel."""

    experiment: str
    schema: int
    description: str
    kernel: str
    kernel_pt_reclaim: bool
    accelerator: str
    commit: str | None
    seed: int
    parameters: dict[str, Any]
    unavailable: dict[str, str]


class Document(Header):
    """A workload's.

    `unavailable` says why a backend was left out; `clock` compares the guest's with the
    host's, for times count only where both agree.
    """

    runs: list[Run]
    clock: NotRequired[dict[str, float]]


class SuiteDocument(Header):
    """That of a suite: results by part, of which `suite.part` says more.

    `unavailable` says why a part was left out, `failures` why one measured nothing;
    `guests` are the machines that were booted, with the parts that ran in each.
    """

    parts: dict[str, dict[str, Any]]
    failures: dict[str, str]
    guests: list[dict[str, Any]]


AnyDocument: TypeAlias = Document | SuiteDocument


def is_suite(document: AnyDocument) -> TypeIs[SuiteDocument]:
    """Whether it is that of a suite, and not a workload's."""
    return "parts" in document


def write(document: AnyDocument, path: Path) -> None:
    """Write one document, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def with_other_parts(document: AnyDocument, earlier: AnyDocument) -> AnyDocument:
    """A suite's, with what came of its other parts by the same commit in the same way.

    A commit that was changed is not the same as any, nor is none.
    """
    alike = ("experiment", "schema", "kernel", "accelerator", "commit", "seed", "parameters")
    same = all(document.get(name) == earlier.get(name) for name in alike)
    changed = (document["commit"] or "-dirty").endswith("-dirty")
    if changed or not same or not is_suite(document) or not is_suite(earlier):
        return document
    new = {*document["parts"], *document["failures"], *document["unavailable"]}

    def old(said: dict[str, Any]) -> dict[str, Any]:
        return {name: what for name, what in said.items() if name not in new}

    parts = old(earlier["parts"])
    guests = [one for one in earlier["guests"] if {*one["parts"]} & {*parts}]
    return {
        **document,
        "unavailable": old(earlier["unavailable"]) | document["unavailable"],
        "parts": parts | document["parts"],
        "failures": old(earlier["failures"]) | document["failures"],
        "guests": guests + document["guests"],
    }


def read_all(directory: Path) -> list[AnyDocument]:
    """The experiments among the JSON files of a directory, by name and kernel."""
    found: list[AnyDocument] = []
    for path in directory.glob("*.json"):
        try:
            content = json.loads(path.read_bytes())
        except ValueError:  # none that `write` wrote
            continue
        if isinstance(content, dict) and content.get("schema") == SCHEMA:
            found.append(cast(AnyDocument, content))
    return sorted(found, key=lambda document: (document["experiment"], _version(document)))


def _version(document: Header) -> list[int]:
    numbers = document["kernel"].split("-")[0].split(".")
    return [int(number) for number in numbers if number.isdigit()]
