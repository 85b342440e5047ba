# SPDX-License-Identifier: MIT
"""Parts of `reclaim-cost` and `designs` in the lab: what holds of their figures on any host."""

import json
import subprocess
import sys
from typing import Any

import pytest

from host.test_costs_in_lab import PROGRAM

pytestmark = pytest.mark.measured


def measured(
    kernel: str, *parts: str, options: tuple[str, ...], suite: str = "reclaim-cost"
) -> Any:  # noqa: ANN401 -- JSON
    """What parts measure in one guest, quickly."""
    done = subprocess.run(
        [
            *[PROGRAM, "lab", "run", f"--kernel={kernel}", *options, "--"],
            *[sys.executable, "-P", "-m", "experiments.suite", suite],
            *[*parts, "--quick"],
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["failures"] == {}
    return answer["parts"]


@pytest.mark.parametrize("kernel", ["6.1", "7.3"])
def test_instructions_follow_the_tables(kernel: str) -> None:
    """Each table that a fault makes anew costs, and a scan costs less than reading the pagemap."""
    parts = measured(
        kernel, "refault", "whole_process", options=("--icount", "--cpus=1", "--memory=2G")
    )
    for figures in parts["refault"]["fault_instructions_by_threads"].values():
        kept, pte, pmd = (figures[freed]["median"] for freed in ("kept", "pte_freed", "pmd_freed"))
        # A table is a page to clear, as is what the fault is for.
        assert 1_000 < kept < pte - 1_000 < pmd - 2_000
    whole = parts["whole_process"]
    assert whole["reserved_bytes"] >= 120 << 40
    assert whole["mappings"] <= 4
    assert whole["tables_seen"]["pte"] >= 64
    scan = whole["scan_instructions"]["median"]
    assert whole["scan_side_by_side_instructions"]["median"] < scan
    # A table is read by 64 cache lines at least.
    assert whole["scan_instructions_per_empty_table"]["median"] > 64
    assert scan < whole["pagemap_read_instructions"]["median"]
    # Linux 6.7 brought PAGEMAP_SCAN.
    assert (whole["pagemap_scan_instructions"] is None) == (kernel == "6.1")
    assert [claim["value"] for claim in whole["claims"]] == [
        scan,
        whole["scan_instructions_per_empty_table"]["median"],
    ]
    assert all(claim["met"] for claim in whole["claims"])


@pytest.mark.parametrize("kernel", ["6.1", "7.3"])
def test_faults_go_by_the_lock_that_the_kernel_has(kernel: str) -> None:
    """The mmap lock before 6.4, a VMA's own since; times are not judged on a busy host."""
    part = measured(kernel, "faults", options=("--cpus=2", "--memory=2G"))["faults"]
    locks = part["mmap_locks"]
    assert locks["holds_per_fault"] == pytest.approx(1 if kernel == "6.1" else 0, abs=0.02)
    assert (locks["write_holds"] > 0) == (kernel == "6.1")
    for each in part["rounds"]:
        for name, one in each["passes"].items():
            latencies = one["latencies"]
            assert sum(latencies["histogram"]["counts"]) == latencies["events"], name
            assert 0 < latencies["min_ns"] <= latencies["median_ns"] <= latencies["p99_ns"]
            assert one["freed"] >= {
                "spinning": 0,
                "upper": part["upper_tables"],
            }.get(name, part["tables"])
        assert each["passes"]["spinning"]["stalled_share"] <= 0.01


@pytest.mark.parametrize("kernel", ["6.12", "7.3"])
def test_designs(kernel: str) -> None:
    """An explicit call frees all, cheaper for many at once; who touches sparsely pays."""
    parts = measured(
        kernel,
        "when",
        "objection",
        suite="designs",
        options=("--icount", "--cpus=1", "--memory=4G"),
    )
    when = parts["when"]["designs"]
    tables = parts["when"]["units"] * 4096
    assert when["nothing"]["left_bytes"] >= tables
    assert (when["whole"]["left_bytes"] < tables // 64) == (kernel == "7.3")
    for name in ("eager", "deferred", "once", "flush_each"):
        assert when[name]["left_bytes"] < tables // 64
    cost = {name: one["release_instructions"]["median"] for name, one in when.items()}
    assert cost["nothing"] < cost["once"] < cost["flush_each"] < cost["eager"]
    assert cost["deferred"] < 1.1 * cost["once"]
    fault = {name: one["fault_instructions"]["median"] for name, one in when.items()}
    assert fault["nothing"] + 1000 < fault["eager"]
    more = {name: one["more"] for name, one in parts["objection"]["access"].items()}
    for threads in (1, 2, 4):
        assert more[f"single-{threads}"] > more[f"sixteen-{threads}"] > more[f"whole-{threads}"]
        assert more[f"whole-{threads}"] < 0.05
