# SPDX-License-Identifier: MIT
"""One table of all designs: what was measured, what is modelled, and what others published."""

from collections.abc import Sequence
from typing import Any

from experiments.document import Document, of

HEADINGS = (
    "method",
    "memory left",
    "a release",
    "the fault path",
    "longest hold of a lock",
    "can't reach",
    "known by",
)
_SERIES = (
    "published with the series “Free user PTE page table pages” (2021): 0.36 to 1.17 % less "
    "page-fault throughput"
)
# The empty tables that each measured method can't free.
_REACH = {
    "none": "everything",
    "zap": "releases of less than 2 MiB, holes in files, page reclaim, PMD tables",
    "module_each": "what nobody asks for",
    "module_each_64": "likewise, and the last ones until the next release",
    "module_once": "likewise, until it is asked; by pid it serves every program",
    "module_flush_each": "as khugepaged would: what it has not come to yet",
}
Cells = tuple[str, str, str, str, str, str, str]


def rows(documents: Sequence[Document]) -> list[Cells]:
    """Return the rows: `designs/when` on the last kernel, and `designs/atomics` on hardware."""
    when = [(one["kernel"], one["measured"] or {}) for one in of(documents, "designs/when")]
    atomics = [
        one["measured"] or {}
        for one in of(documents, "designs/atomics")
        if one["accelerator"] != "tcg"
    ]
    return [
        *(
            _measured(result["methods"][name], result["units"], reach, f"measured, Linux {kernel}")
            for kernel, result in when[-1:]
            for name, reach in _REACH.items()
        ),
        (
            "a reference count on each PTE table",
            "none: freed with the last entry",
            "as today, and a reference dropped",
            _model(atomics, "references"),
            "not known",
            "nothing",
            f"{_SERIES}; the atomics alone are a model",
        ),
        (
            "a reader-writer lock around each page table walk",
            "none",
            "the lock taken for writing",
            _model(atomics, "read_locks"),
            "not known",
            "nothing",
            "a model: the lock alone",
        ),
        (
            "free on zap, under the mmap lock held for writing",
            "none",
            "as “explicit call after each release”, without its system call",
            "as “explicit call after each release”; faults wait for each zap",
            "as “explicit call after each release”",
            "page reclaim, which has no mmap lock",
            "reasoned from the explicit call's figures",
        ),
    ]


def _measured(one: dict[str, Any], units: int, reach: str, known: str) -> Cells:
    def median(name: str) -> str:
        return f"{one[f'{name}_instructions']['median']:,.0f} instructions"

    return (
        one["label"],
        f"{one['left_bytes'] >> 10:,} kB of {units * 4:,} kB",
        median("release"),
        median("fault"),
        median("longest_hold") if one["calls"] else "none for writing",
        reach,
        known,
    )


def _model(atomics: Sequence[dict[str, Any]], name: str) -> str:
    if not atomics:
        return "not modelled here"
    one = atomics[-1]["operations"][name]
    return (
        f"+{one['alone_of_fault']:.1%} of a fault, +{one['shared_of_fault']:.1%} where two threads "
        "fault in one table"
    )
