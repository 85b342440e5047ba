# SPDX-License-Identifier: MIT
"""The experiment `allocators`: its arithmetic, its ways, its rows and its pictures."""

from pathlib import Path
from typing import Any

import pytest

from allocator_shim.preloading import CONF
from cleanup import _uapi
from experiments import report, table
from experiments.allocators import paired
from experiments.allocators.parts import tables
from experiments.allocators.ways import HOOKS, MODULE, NO_DEVICE, PLAIN, RETAIN_FALSE
from experiments.document import SuiteDocument
from experiments.suite.registry import SUITES

ALLOCATORS = SUITES["allocators"]
FIGURES = {
    "plain": {"values": [100.0, 102.0]},
    "hooks": {
        "values": [104.0, 103.0],
        "ratio": {"median": 1.025, "low": 1.01, "high": 1.04},
    },
}
FORKED = {
    "first_ns": 2e6,
    "steady_ns": 1e6,
    "least_ns": 9e5,
    "most_ns": 1.5e6,
    "child_vmpte_bytes": 128 << 20,
    "freed": 32768,
    "freeing_ns": 5e6,
}
RESULTS: dict[str, dict[str, Any]] = {
    "tables": {
        "heap_bytes": 2 << 30,
        "runs": {
            "purge": {
                "plain": {"peak": 1100, "tables": 1200, "empty": 1000, "kept": 42},
                "hooks": {"peak": 1100, "tables": 200, "empty": 3, "kept": 42},
            }
        },
        "claims": [],
    },
    "mass_delete": {
        "heap_bytes": 1 << 30,
        "runs": {
            "redis-server, without": {"plain": {"peak": 600, "tables": 700, "empty": 500}},
        },
    },
    "churn": {"cpu_ns_by_operation": {"default": FIGURES, "decay_0": FIGURES}, "claims": []},
    "calls": {"instructions_by_operation": FIGURES},
    "fork": {"runs": {"plain": FORKED}, "claims": []},
    "others": {
        "heap_bytes": 1 << 30,
        "runs": {
            "glibc, plain": {"peak": 520, "tables": 530, "empty": 3, "reclaimed": None},
            "glibc, shim": {"peak": 520, "tables": 530, "empty": 3, "reclaimed": 2},
        },
        "missing": {"Go": "there is no go on this machine"},
    },
    "redis": {"cpu_ns_by_request": FIGURES, "claims": []},
    "syscall": {"cpu_ns_by_call": FIGURES},
}


def made_document() -> SuiteDocument:
    return {
        "experiment": ALLOCATORS.name,
        "schema": 1,
        "description": ALLOCATORS.description,
        "kernel": "6.18.44",
        "kernel_pt_reclaim": True,
        "accelerator": "host",
        "commit": None,
        "seed": 1,
        "parameters": {"quick": True},
        "unavailable": {},
        "parts": RESULTS,
        "failures": {},
        "guests": [],
    }


@pytest.mark.parametrize(
    ("rounds", "low", "high"), [(1, 0, 0), (5, 0, 4), (6, 0, 5), (9, 1, 7), (15, 3, 11)]
)
def test_the_interval_is_by_order(rounds: int, low: int, high: int) -> None:
    """As tables of the sign test have it."""
    found = paired.interval([100 + place for place in range(rounds)], [100] * rounds)
    assert found["median"] == 1 + (rounds - 1) / 200
    assert (found["low"], found["high"]) == (1 + low / 100, 1 + high / 100)


def test_rounds_begin_with_another_each() -> None:
    """And every ratio is of one round."""
    ran: list[str] = []

    def run(name: str) -> float:
        ran.append(name)
        return float(len(ran))

    found = paired.ratios(run, "a", ["b"], 2)
    assert ran == ["a", "b", "b", "a"]
    assert found["a"] == {"values": [1.0, 4.0]}
    assert found["b"]["values"] == [2.0, 3.0]
    assert found["b"]["ratio"] == {"median": 1.375, "low": 0.75, "high": 2.0}


def test_what_a_way_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the caller's own conf nothing is left."""
    monkeypatch.setenv(CONF, "threshold:1")
    plain = PLAIN.with_malloc_conf({"dirty_decay_ms": "0"}).environment(["liballocator.so"])
    assert plain["LD_PRELOAD"] == "liballocator.so"
    assert CONF not in plain
    assert plain["MALLOC_CONF"] == "thp:never,dirty_decay_ms:0"
    hooks = HOOKS.environment(["liballocator.so"])
    assert hooks["LD_PRELOAD"].split()[1:] == ["liballocator.so"]
    assert hooks["LD_PRELOAD"].split()[0].endswith("libpgtable_cleanup.so")
    assert hooks[CONF] == "hooks:jemalloc,backend:null"
    assert HOOKS.attended().environment([])[CONF] == "hooks:jemalloc,backend:null,thread:true"
    assert PLAIN.attended() == PLAIN
    assert RETAIN_FALSE.environment([])["MALLOC_CONF"] == "thp:never,retain:false"


def test_a_way_needs_the_device_or_its_absence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_uapi, "DEVICE", str(tmp_path / "device"))
    assert [way.works_here() for way in (PLAIN, MODULE, NO_DEVICE)] == [True, False, True]
    (tmp_path / "device").touch()
    assert [way.works_here() for way in (PLAIN, MODULE, NO_DEVICE)] == [True, True, False]


def test_rows() -> None:
    parts = ALLOCATORS.parts()
    assert set(parts) == set(RESULTS)
    rows = {name: dict(part.rows(RESULTS[name])) for name, part in parts.items()}
    assert rows["tables"]["purge, hooks"] == "3 empty of 200 tables"
    assert rows["churn"]["objects up to 1 KiB, plain"] == "101.0 ns"
    assert (
        rows["churn"]["up to 16 KiB at decay 0, hooks"] == "103.5 ns, 1.025 (1.010 to 1.040) times"
    )
    assert rows["calls"]["hooks"] == "103.5 instructions, 1.025 (1.010 to 1.040) times"
    empty = "3 empty of 530 tables"
    assert rows["others"]["glibc, plain"] == empty
    assert rows["others"]["glibc, shim"] == f"{empty}; reclaim by pid freed 2"
    assert rows["others"]["Go"] == "there is no go on this machine"
    assert rows["redis"] == rows["syscall"]
    assert rows["syscall"]["plain"] == "101.0 ns"
    assert rows["fork"]["plain"].startswith("first 2.00 ms, then 1.00 ms (0.90 to 1.50); the child")


def test_what_is_claimed_of_tables() -> None:
    """Of what jemalloc alone leaves; of the option that unmaps nothing is."""
    counted = {
        "plain": {"empty": 1000},
        "retain:false": {"empty": 700},
        "shim": {"empty": 51},
        "hooks": {"empty": 50},
    }
    claims = {claim["claim"].split(", ")[-1]: claim for claim in tables._claims("purge", counted)}
    assert {name: claim["met"] for name, claim in claims.items()} == {"shim": False, "hooks": True}
    assert tables._claims("purge", {"plain": {"empty": 0}}) == []


def test_the_report_and_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a suite that counts no instructions nothing is said of them."""
    report.write_all([made_document()], tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h2>allocators</h2>" in text
    assert (tmp_path / "allocators-tables.png").exists()
    table.show([made_document()])
    shown = capsys.readouterr().out
    assert "3 empty of 200 tables" in shown
    assert "instructions are a guest's" not in shown
