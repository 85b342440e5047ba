# SPDX-License-Identifier: MIT
"""`reclaim-cost` in the lab: that it counts right, and what holds on any host."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from experiments.cost.contenders import CONTENDERS, TABLES
from experiments.sparse import PAGE

pytestmark = pytest.mark.measured

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "pgtable-cleanup")
LOOPS = (1_000_000, 10_000_000, 50_000_000)

# What is known to run so many instructions, and what takes time without running any; the kernel's
# own work, which comes now and then, is in some of the turns.
KNOWN_COSTS = f"""
import json, time
from statistics import median
from experiments.cost import _calls, meter
with meter.running() as counter:
    cost = lambda operation: median(counter.net(operation).instructions for _ in range(5))
    print(json.dumps({{
        "loops": [cost(lambda: _calls.loop(length)) for length in {LOOPS}],
        "sleep": cost(lambda: time.sleep(0.1)),
        "nothing": cost(lambda: None),
    }}))
"""


def run(*arguments: str) -> Any:  # noqa: ANN401 -- what JSON holds
    """The JSON that a command prints, which is to succeed."""
    done = subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kernel", ["6.1", "7.3"])
def test_the_meter_counts_instructions_and_no_time(kernel: str) -> None:
    """By either way to wait for RCU: 6.1 has no file for it."""
    guest = ["lab", "run", "--icount", "--cpus=1", f"--kernel={kernel}", "--"]
    counted = run(*guest, sys.executable, "-P", "-c", KNOWN_COSTS)
    for length, cost in zip(LOOPS, counted["loops"], strict=True):
        assert cost == pytest.approx(length, rel=0.01, abs=100_000)
    # 100,000,000 ns went by.
    assert abs(counted["sleep"]) < 200_000
    assert abs(counted["nothing"]) < 100_000


@pytest.mark.parametrize("kernel", ["6.12", "7.3"])
def test_quick(kernel: str, tmp_path: Path) -> None:
    """Every way does what it is to do on that kernel, and what is claimed of the module holds."""
    pt_reclaim = kernel == "7.3"
    document = run(
        *["experiment", "run", "reclaim-cost", "--quick", f"--kernel={kernel}", "--json"],
        *["--part=contenders", "--part=shootdowns", "--part=holds", f"--out={tmp_path}"],
    )
    assert document["experiment"] == "reclaim-cost"
    assert document["kernel"].startswith(f"{kernel}.")
    assert document["kernel_pt_reclaim"] is pt_reclaim
    assert document["failures"] == {}
    assert {guest["icount"] for guest in document["guests"]} == {True, False}

    contenders = document["parts"]["contenders"]["contenders"]
    assert set(contenders) == set(CONTENDERS)
    falls = {name: figures["vmpte_fall_bytes"] // PAGE for name, figures in contenders.items()}
    idle = {"module_scan"} if pt_reclaim else {"module_scan", "dontneed"}
    assert {name for name, fall in falls.items() if not fall} == idle
    assert falls["module"] == falls["module_flush_each"] == falls["module_live_inside"] == TABLES
    assert contenders["module"]["flushes"] <= TABLES // 64
    assert contenders["module_flush_each"]["flushes"] == TABLES
    costs = {
        name: figures["instructions_per_table"]["median"] for name, figures in contenders.items()
    }
    assert 0 < costs["module_scan"] < costs["module"] < costs["module_flush_each"]
    assert costs["map_fixed"] < costs["map_fixed_each"]
    # Where the live tables lie makes no odds.
    assert costs["module_live_inside"] == pytest.approx(costs["module"], rel=0.1)

    claims = [claim for part in document["parts"].values() for claim in part["claims"]]
    assert [claim for claim in claims if not claim["met"]] == []
    assert len(claims) == (3 if pt_reclaim else 2)

    holds = document["parts"]["holds"]
    assert len(holds["passes"]) == 7
    differ = []
    for name, one in holds["passes"].items():
        # 6.12 can't free PTE tables under mmap read.
        shared = pt_reclaim and one["tables_of"] == "PTE"
        assert (one["write_holds"] == 0) == shared
        if not shared:
            longest = one["longest_write_instructions"]["max"]
            assert longest > holds["shortest_write_hold_instructions"]
        # The module counts from after one tracepoint until after the other.
        longest = max(one[f"longest_{kind}_instructions"]["max"] for kind in ("write", "read"))
        own = one["module_longest_hold_traced_instructions"]["max"]
        if longest != pytest.approx(own, rel=0.01, abs=5_000):
            differ.append((name, longest, own))
    # Between a tracepoint and the module's clock an interrupt may come that frees what RCU kept.
    assert len(differ) <= 1, differ
    assert [claim["limit"] for claim in holds["claims"]] == [200_000]

    assert (tmp_path / f"reclaim-cost-lab-{kernel}.json").is_file()
    assert (tmp_path / "report.html").stat().st_size > 0
