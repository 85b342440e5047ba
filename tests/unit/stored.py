# SPDX-License-Identifier: MIT
"""Documents for tests: those that are stored as evidence, and changed copies of them."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from experiments import document as documents
from experiments.document import Document
from experiments.phases import Run

ROOT = Path(__file__).parents[2]
EVIDENCE = ROOT / "evidence/experiments"
PNG = b"\x89PNG\r\n\x1a\n"
MIB = 1 << 20


@cache
def _all() -> list[Document]:
    return documents.read_all(EVIDENCE)


def evidence() -> list[Document]:
    """Return copies of all stored documents, which a test may change."""
    return deepcopy(_all())


def stored(part: str, /, on: str = "7.3", **changed: Any) -> Document:  # noqa: ANN401
    """Return the stored document of a part on a kernel of the series `on`, with changes."""
    found = [one for one in evidence() if one["part"] == part]
    (document,) = (one for one in found if one["kernel"].startswith(f"{on}."))
    return {**document, **changed}  # type: ignore[typeddict-item]


def rows(document: Document) -> dict[str, str]:
    """Return the rows of a document's two-column table, by label."""
    part, measured = documents.measured_of(document)
    return {label: value for label, value in part.rows(measured)}  # noqa: C416 -- pairs


def made_run(method: str, *, granularity: str = "4k", repeat: int = 0, freed: int = 0) -> Run:
    """Make up a run over 25600 empty tables, of which the method freed some."""
    released = 100 * MIB + 300 * 1024
    vmpte = {
        "start": 100 * 1024,
        "touched": released,
        "released": released,
        "cleaned": released - freed * 4096,
    }
    return {
        "method": method,
        "granularity": granularity,
        "repeat": repeat,
        "phases": {
            phase: {
                "vmpte_bytes": size,
                "pagetables_bytes": size + MIB,
                "rss_bytes": 20 * MIB,
                "seconds": 0.5 + repeat,
            }
            for phase, size in vmpte.items()
        },
        "empty_tables": 25600,
        "empty_tables_after": 25600 - freed,
        "empty_upper_tables": {"pmd": 0, "pud": 0},
        "freed": {"pte": freed, "pmd": 0, "pud": 0},
        "skipped": {},
        "contents_intact": True,
        "survivors": 0,
        "counts": {},
        "tlb_shootdowns": 32,
        "tlb_tables": 4096,
        "violations": [],
    }


def made_document(
    kernel: str = "6.12.95+deb12-amd64", part: str = "series-50g", *runs: Run
) -> Document:
    """Make up a workload's document of `runs`: by default one of method none, three of module."""
    measured = {
        "parameters": {"size_bytes": 50 << 30, "granularity": ["4k"], "repeats": 3},
        "runs": list(runs)
        or [
            made_run("none"),
            *(made_run("module", repeat=repeat, freed=25600) for repeat in range(3)),
        ],
    }
    return stored(
        part,
        kernel=kernel,
        kernel_pt_reclaim=False,
        commit="0123456789abcdef",
        unavailable={"zap": "this kernel keeps the tables"},
        measured=measured,
    )
