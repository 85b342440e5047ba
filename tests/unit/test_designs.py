# SPDX-License-Identifier: MIT
"""The suite of designs, from figures made up: rows, one table, plots."""

from typing import Any

import pytest

from experiments.designs import SUITE, _atomics, _release, table
from experiments.designs.parts.when import DESIGNS
from experiments.document import SuiteDocument
from experiments.sparse import UNIT, sparse_mapping
from experiments.suite.spread import spread


def design(label: str, *, left: int, calls: int) -> dict[str, Any]:
    """One of `when`."""
    return {
        "label": label,
        "left_bytes": left,
        "calls": calls,
        "release_instructions": spread([4000, 4100]),
        "fault_instructions": spread([7000]),
        "longest_hold_instructions": spread([60_000]),
    }


WHEN = {
    "units": 2048,
    "runs": 2,
    "designs": {
        name: design(
            one.label,
            left=16 << 10 if one.every else 8 << 20,
            calls=2048 // one.every if one.every else 0,
        )
        for name, one in DESIGNS.items()
    },
}
ATOMICS = {
    "faults": 1,
    "pairs": 1,
    "fault_ns": spread([1700.0]),
    "operations": {
        name: {
            "label": name,
            "alone_ns": spread([18.0]),
            "shared_ns": spread([90.0]),
            "alone_of_fault": 0.0106,
            "shared_of_fault": 0.0529,
        }
        for name in ("references", "read_locks")
    },
}
OBJECTION = {
    "runs": 1,
    "access": {
        "single-1": {
            "threads": 1,
            "pages": 1,
            "units": 1024,
            "kept_instructions": spread([11_000]),
            "freed_instructions": spread([19_000]),
            "kept_bytes": 4 << 20,
            "freed_bytes": 100 << 10,
            "more": 8 / 11,
        }
    },
}
RESULTS = {"when": WHEN, "atomics": ATOMICS, "objection": OBJECTION}


def document(kernel: str, accelerator: str, *parts: str) -> SuiteDocument:
    """With some of the results."""
    return {
        "experiment": SUITE.name,
        "schema": 1,
        "description": SUITE.description,
        "kernel": kernel,
        "kernel_pt_reclaim": True,
        "accelerator": accelerator,
        "commit": None,
        "seed": 1,
        "parameters": {},
        "unavailable": {},
        "parts": {name: RESULTS[name] for name in parts},
        "failures": {},
        "guests": [],
    }


def test_rows() -> None:
    """Every part says what it measured; what a design leaves comes first."""
    parts = SUITE.parts()
    assert set(parts) == set(RESULTS)
    when = dict(parts["when"].rows(WHEN))
    assert when["nothing"].startswith("8,192 kB left; a release 4,050 instructions")
    assert "longest hold" not in when["nothing"]
    assert "longest hold 60,000" in when["explicit call after each release"]
    ((label, said),) = parts["objection"].rows(OBJECTION)
    assert label == "1 of 512 pages, 1 thread"
    assert "+72.7%" in said
    assert "4,096 kB of tables stay, or 100 kB" in said
    assert "1.06% of a fault" in dict(parts["atomics"].rows(ATOMICS))["references, 1 thread"]
    assert parts["atomics"].description.startswith("a MODEL")


def test_one_table() -> None:
    """The newest kernel's measurements, the host's model, and what is neither says so."""
    documents = [
        document("6.1.0-50-amd64", "tcg", "when"),
        document("7.3.4+deb13-amd64", "tcg", "when", "atomics"),
        document("6.18.44", "host", "atomics"),
    ]
    rows = table.rows(documents)
    assert all(len(row) == len(table.HEADINGS) for row in rows)
    known = {row[0]: row for row in rows}
    assert known["nothing"][1] == "8,192 kB of 8,192 kB"
    assert known["nothing"][-1] == "measured, Linux 7.3.4+deb13-amd64"
    counted = known["a reference count on each PTE table"]
    assert counted[3].startswith("+1.1% of a fault, +5.3%")
    assert "published" in counted[-1]
    # Atomics of an emulator are no model of hardware's.
    emulated = {row[0]: row for row in table.rows(documents[:2])}
    assert emulated["a reference count on each PTE table"][3] == "not modelled here"


@pytest.mark.parametrize("name", SUITE.plots())
def test_plots(name: str) -> None:
    """Drawn for one kernel and for two."""
    draw = SUITE.plots()[name]
    for kernels in (["7.3.4"], ["6.1.0", "7.3.4"]):
        figure = draw([(kernel, RESULTS[name]) for kernel in kernels])
        assert figure.axes[0].get_xlabel()


def test_release_without_calls() -> None:
    """The released page reads as zeros, its neighbour as it was; batches are whole."""
    with sparse_mapping(4 * UNIT, seed=1) as mapping:
        for unit in range(4):
            mapping.view[unit * UNIT] = mapping.view[unit * UNIT + 4096] = 1
        done = _release.release(mapping.view, block=4096, every=0, fd=-1, max_hold_ns=0)
        assert done == (0, 0, 0)
        for unit in range(4):
            assert mapping.view[unit * UNIT] == 0
            assert mapping.view[unit * UNIT + 4096] == 1
        with pytest.raises(ValueError, match="whole batches"):
            _release.release(mapping.view, block=4096, every=3, fd=-1, max_hold_ns=0)
        with pytest.raises(OSError, match="Bad file descriptor"):
            _release.release(mapping.view, block=4096, every=2, fd=-1, max_hold_ns=0)


def test_atomics_leave_nothing() -> None:
    """Each pair undoes itself, and more of them take longer."""
    word = bytearray(8)
    for operation in (_atomics.references, _atomics.read_locks):
        view = memoryview(word).cast("Q")
        assert operation(view, 2_000_000) > operation(view, 1000) > 0
        assert view[0] == 0
