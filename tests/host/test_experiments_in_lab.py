# SPDX-License-Identifier: MIT
"""The experiments in the lab at their full size: what the project claims, kernel by kernel."""

import json
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

# Above VmPTE before the mapping, in bytes.
LEFT_AT_MOST = 16 << 10

BOTH = ("--backend=none", "--backend=module")

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "pgtable-cleanup")


def run_json(kernel: str, out: Path, *arguments: str) -> dict[str, Any]:
    """The document of an experiment in a guest, which is to succeed."""
    done = subprocess.run(
        [
            *[PROGRAM, "experiment", "run", *arguments],
            *[f"--kernel={kernel}", "--quick", "--json", f"--out={out}"],
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["kernel"].startswith(f"{kernel}.")
    assert document["accelerator"] in ("tcg", "kvm")
    for run in document["runs"]:
        assert run["violations"] == []
        assert run["contents_intact"]
    return document


def vmpte(run: dict[str, Any], phase: str) -> int:
    """Above its value before the mapping, in bytes."""
    above: int = run["phases"][phase]["vmpte_bytes"] - run["phases"]["start"]["vmpte_bytes"]
    return above


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.3"])
def test_series(kernel: str, tmp_path: Path) -> None:
    """100 MiB of tables come and go; 7.3 at 2m frees them itself, but for the PMD tables."""
    granularities = [f"--granularity={granularity}" for granularity in ("4k", "64k", "2m")]
    document = run_json(kernel, tmp_path, "series-50g", *granularities, *BOTH)
    runs = {(run["granularity"], run["backend"]): run for run in document["runs"]}
    assert document["kernel_pt_reclaim"] == (kernel == "7.3")
    assert {backend for _, backend in runs} >= {"none", "module"}
    for (granularity, backend), run in runs.items():
        kernel_did_it = document["kernel_pt_reclaim"] and granularity == "2m"
        assert kernel_did_it or vmpte(run, "touched") >= 100 << 20
        if backend == "none" and not kernel_did_it:
            assert run["freed"] == {"pte": 0, "pmd": 0, "pud": 0}
            assert vmpte(run, "cleaned") == vmpte(run, "touched")
        else:
            assert vmpte(run, "cleaned") <= (LEFT_AT_MOST if backend == "module" else 220 << 10)


def test_tebibyte(tmp_path: Path) -> None:
    """2 GiB of PTE tables become less than 0.3 % of that, and 128 pages survive."""
    document = run_json("6.12", tmp_path, "tebibyte", "--backend=module")
    (run,) = document["runs"]
    assert document["parameters"]["size_bytes"] == 1 << 40
    assert vmpte(run, "released") >= 2 << 30
    assert vmpte(run, "cleaned") < 0.003 * (2 << 30)
    assert run["survivors"] == 128
    assert run["freed"]["pte"] == run["empty_tables"] == (1 << 19) - 128
    assert run["freed"]["pmd"] == run["empty_upper_tables"]["pmd"] >= 1024 - 128 - 1


def the_run(document: dict[str, Any], *, units: int) -> dict[str, Any]:
    """The document's one run, which freed every table of so many units, level by level."""
    run: dict[str, Any]
    (run,) = document["runs"]
    upper = run["empty_upper_tables"]
    # On whole GiB; how many 512 GiB the mapping overlaps, and shares, is up to its address.
    assert run["empty_tables"] == units
    assert upper["pmd"] == units // 512
    assert run["freed"] == {"pte": units, **upper}
    assert run["empty_tables_after"] == 0
    assert vmpte(run, "released") >= (units + units // 512) * 4096
    assert vmpte(run, "cleaned") <= LEFT_AT_MOST
    return run


def test_tebibyte_without_survivors(tmp_path: Path) -> None:
    """2 GiB of PTE and 4 MiB of PMD tables, all of them gone."""
    document = run_json("6.12", tmp_path, "tebibyte-empty", "--backend=module")
    run = the_run(document, units=1 << 19)
    assert run["survivors"] == 0


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.3"])
def test_sparse_file(kernel: str, tmp_path: Path) -> None:
    """513 MiB of tables that page reclaim left empty, under a file that keeps its contents."""
    document = run_json(kernel, tmp_path, "sparse-file-256g", "--backend=module")
    run = the_run(document, units=1 << 17)
    assert run["counts"]["resident pages before"] == 1 << 17
    assert run["counts"]["resident pages after"] == 0


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.3"])
def test_zero_pages(kernel: str, tmp_path: Path) -> None:
    """513 MiB of tables that hold the zero page alone; without dropping it nothing is empty."""
    document = run_json(kernel, tmp_path, "zero-pages-256g", "--backend=module")
    the_run(document, units=1 << 17)


def test_holes_punched_by_one_of_five_processes(tmp_path: Path) -> None:
    """PT_RECLAIM sees none of them, and a zap reaches the caller's tables alone."""
    document = run_json("7.3", tmp_path, "shared-memfd-32g", "--size=4g", *BOTH, "--backend=zap")
    runs = {run["backend"]: run for run in document["runs"]}
    assert set(runs) == {"none", "zap", "module"}
    for run in runs.values():
        assert run["empty_tables"] >= 5 * 2046
        assert run["survivors"] == 2
    assert runs["none"]["freed"]["pte"] == 0
    assert runs["zap"]["freed"]["pte"] <= 2048
    # Of each process its two live tables stay, and what is above them.
    assert vmpte(runs["module"], "cleaned") <= 5 * 2 * 3 * 4096


def test_a_balloon(tmp_path: Path) -> None:
    """A block of 64 KiB in a thousand stays."""
    document = run_json("7.3", tmp_path, "balloon-2g", "--size=512m", "--granularity=64k", *BOTH)
    runs = {run["backend"]: run for run in document["runs"]}
    assert runs["none"]["freed"]["pte"] == 0
    assert runs["module"]["freed"]["pte"] == runs["module"]["empty_tables"] >= 256 * 0.9
    assert runs["module"]["survivors"] >= 16


def test_workers(tmp_path: Path) -> None:
    """Page reclaim empties the tables of nine processes at once; each has its own to free."""
    document = run_json("7.3", tmp_path, "workers-file-32g", *BOTH)
    runs = {run["backend"]: run for run in document["runs"]}
    for run in runs.values():
        assert run["empty_tables"] >= 0.99 * 9 * 16384
    assert runs["none"]["freed"]["pte"] == 0
    assert runs["module"]["freed"]["pte"] == runs["module"]["empty_tables"]
    assert vmpte(runs["module"], "cleaned") <= 9 * LEFT_AT_MOST
