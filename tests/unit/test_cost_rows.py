# SPDX-License-Identifier: MIT
"""Tests of the tables of `reclaim-cost`: a scan of a whole process, faults and refaults."""

from typing import Any

import pytest

from experiments.cost.latencies import summary
from experiments.document import measured_of
from experiments.spread import spread
from unit.stored import rows as rows_of
from unit.stored import stored

FIGURE = spread([1_000_000, 1_000_007, 999_995])


def whole_process(**more: Any) -> dict[str, Any]:  # noqa: ANN401 -- what JSON holds
    return {
        "reserved_bytes": 120 << 40,
        "populated_tables": 64,
        "scan_instructions": FIGURE,
        "scan_side_by_side_instructions": FIGURE,
        "scan_pte_instructions": FIGURE,
        "scan_instructions_per_empty_table": FIGURE,
        "pagemap_scan_instructions": FIGURE,
        "pagemap_read_bytes": 64 << 30,
        "pagemap_read_instructions": FIGURE,
        "pagemap_read_whole_extrapolated_instructions": 1.92e9,
        **more,
    }


def faults(*, emulated: bool) -> dict[str, Any]:
    def one(share: float, hold_ns: int) -> dict[str, Any]:
        return {
            "latencies": summary([1000, 2000, 3000]),
            "seconds": 0.5,
            "stalled_share": share,
            "over_limit": 2,
            "usual_over_limit": 1,
            "longest_hold_ns": hold_ns,
        }

    names = ("pte", "pte_quarter_hold", "upper")
    passes = {"spinning": one(0.01, 0), **{name: one(0.025, 4_000_000) for name in names}}
    return {
        "emulated": emulated,
        "rounds": [{"passes": passes}] * 3,
        "mmap_locks": {"tables": 512, "write_holds": 4, "read_holds": 5, "holds_per_fault": 1.0},
    }


def test_what_is_extrapolated_says_so() -> None:
    rows = list(rows_of(stored("reclaim-cost/whole-process", measured=whole_process())).items())
    assert [label for label, value in rows if "1,920,000,000 " in value] == [
        "read pagemap of 120 TiB, extrapolated"
    ]


def test_a_kernel_without_pagemap_scan_says_so() -> None:
    rows = rows_of(
        stored("reclaim-cost/whole-process", measured=whole_process(pagemap_scan_instructions=None))
    )
    assert rows["PAGEMAP_SCAN: 120 TiB"] == "not in this kernel (6.7 brought it)"


@pytest.mark.parametrize("emulated", [True, False])
def test_an_emulators_times_are_called_so(emulated: bool) -> None:
    document = stored("reclaim-cost/faults", measured=faults(emulated=emulated))
    rows = rows_of(document)
    clock = ", times of an emulator" if emulated else ""
    assert rows[f"faults, PTE tables freed{clock}"] == (
        "median 2.0 p99 3.0 longest 3.0 µs; 2.50 % stalled; longest hold 4,000.0 µs; "
        "longer than p99 and a hold 6 in 1.5 s, with nothing freed 3 in 1.5 s"
    )
    assert rows[f"faults, nothing freed{clock}"] == "median 2.0 p99 3.0 longest 3.0 µs"
    part, _ = measured_of(document)
    axes = part.draw([document])[""].axes
    assert [one.get_xlabel() for one in axes] == ["µs, an emulator's" if emulated else "µs"]


def test_refaults_are_shown_by_threads() -> None:
    freed = {"kept": FIGURE, "pte_freed": FIGURE, "pmd_freed": FIGURE}
    result = {"fault_instructions_by_threads": {"1": freed, "4": freed}}
    labels = list(rows_of(stored("reclaim-cost/refault", measured=result)))
    assert labels[0] == "fault, 1 thread, tables kept"
    assert labels[-1] == "fault, 4 threads, PTE and PMD tables freed"
