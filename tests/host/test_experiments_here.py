# SPDX-License-Identifier: MIT
"""Tests that run the experiments for real on this machine's kernel, sized down."""

import json
import os
import re
import signal
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import cleanup

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "pgtable-cleanup")
HAS_MODULE = cleanup.features().methods["module"].works


def experiment(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `experiment run --host` as a user would."""
    return subprocess.run(
        [PROGRAM, "experiment", "run", "--host", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def run_json(out: Path, *arguments: str) -> dict[str, Any]:
    """Return the document of a run, which must succeed."""
    done = experiment(*arguments, "--json", "--quick", f"--out={out}")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any]
    (document,) = json.loads(done.stdout)["experiments"]
    return {**document, **document["measured"]}


def test_series(tmp_path: Path) -> None:
    """A method or PT_RECLAIM frees all 2048 empty tables of 4 GiB; without either, all stay."""
    document = run_json(tmp_path, "series-50g", "--size=4g", "--granularity=4k", "--granularity=2m")
    assert document["accelerator"] == "host"
    assert document["parameters"]["size_bytes"] == 4 << 30
    for run in document["runs"]:
        phases = run["phases"]
        assert list(phases) == ["start", "touched", "released", "cleaned"]
        assert run["violations"] == []
        assert run["contents_intact"]
        remaining = phases["cleaned"]["vmpte_bytes"] - phases["start"]["vmpte_bytes"]
        kernel_did_it = document["kernel_pt_reclaim"] and run["granularity"] == "2m"
        assert run["empty_tables"] == (0 if kernel_did_it else 2048)
        if kernel_did_it or run["method"] != "none":
            # The four PMD tables stay.
            assert remaining == 4 * 4096
        else:
            assert remaining == (2048 + 4) * 4096
    for name in ("report.html", "series-50g-vmpte.png", "series-50g-seconds.png"):
        assert (tmp_path / name).stat().st_size > 0


def test_series_with_all_pages_touched(tmp_path: Path) -> None:
    """Touching all 512 pages of each table makes as many tables as touching one."""
    document = run_json(
        tmp_path, "series-50g", "--size=1g", "--touch=all", "--granularity=64k", "--method=none"
    )
    (run,) = document["runs"]
    assert run["empty_tables"] == 512


def test_tebibyte(tmp_path: Path) -> None:
    """In 16 GiB two pages survive the release and keep their tables; all others become empty."""
    document = run_json(tmp_path, "tebibyte", "--size=16g")
    for run in document["runs"]:
        assert run["violations"] == []
        assert run["survivors"] == 2
        assert run["contents_intact"]
        assert run["empty_tables"] == 8192 - 2
        if run["method"] != "none":
            assert run["freed"] == {"pte": 8192 - 2, "pmd": 0, "pud": 0}


def test_repeats(tmp_path: Path) -> None:
    """With --repeat=2, the JSON document has a run for each repeat."""
    arguments = ["series-50g", "--size=1g", "--method=none", "--repeat=2", "--json"]
    done = experiment(*arguments, f"--out={tmp_path}")
    assert [
        run["repeat"] for run in json.loads(done.stdout)["experiments"][0]["measured"]["runs"]
    ] == [0, 1]


def test_table(tmp_path: Path) -> None:
    """Without --json the command prints a table, and its progress on stderr."""
    done = experiment("series-50g", "--size=1g", "--method=none", "--quick", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    # 512 PTE tables, and up to two PMD tables that map nothing else.
    assert re.search(r"\b0/51[234]\b", done.stdout)
    assert "series-50g: none at 4k" in done.stderr


@pytest.mark.skipif(HAS_MODULE, reason="the module is loaded here")
def test_without_the_module(tmp_path: Path) -> None:
    """A missing module is an error if the user names it, and otherwise a note in the document."""
    out = tmp_path / "out"
    done = experiment("series-50g", "--method=module", f"--out={out}")
    assert done.returncode == 1
    assert "/dev/pgtable_cleanup" in done.stderr
    assert "leave out --host" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
    document = run_json(out, "series-50g", "--size=1g")
    assert "/dev/pgtable_cleanup" in document["unavailable"]["module"]
    assert "module" not in {run["method"] for run in document["runs"]}


def test_sparse_file_where_pages_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without swap a tmpfs pages nothing out: the error advises a TMPDIR on ext4 or xfs."""
    shm = Path("/dev/shm")  # noqa: S108 -- any tmpfs
    if psutil.swap_memory().total:
        pytest.skip("this machine has swap, to which a tmpfs is paged out")
    if not os.access(shm, os.W_OK):
        pytest.skip(f"there is no {shm} to write to")
    monkeypatch.setenv("TMPDIR", str(shm))
    done = experiment("sparse-file-256g", "--size=1g", "--method=none", f"--out={tmp_path}")
    assert done.returncode == 1
    assert "let TMPDIR name a directory on ext4 or xfs" in done.stderr
    assert "Traceback" not in done.stderr


def test_zero_pages(tmp_path: Path) -> None:
    """Tables that hold nothing but zero pages count as empty."""
    document = run_json(tmp_path, "zero-pages-256g", "--size=4g", "--method=none")
    (run,) = document["runs"]
    assert run["violations"] == []
    assert run["contents_intact"]
    assert run["empty_tables"] == 2048
    assert run["empty_upper_tables"]["pmd"] == 4


def test_too_much_address_space(tmp_path: Path) -> None:
    """A mapping that the kernel refuses is reported by a message without a stack trace."""
    done = experiment("tebibyte", "--size=512t", "--method=none", f"--out={tmp_path / 'out'}")
    assert done.returncode == 1
    assert "mapping 524288 GiB failed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_interrupted(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Ctrl-C and kill leave no process and no file."""
    out = tmp_path / "out"
    process = subprocess.Popen(
        [PROGRAM, "experiment", "run", "tebibyte", "--host", f"--out={out}"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        parent = psutil.Process(process.pid)
        deadline = time.monotonic() + 60
        while not (children := parent.children(recursive=True)):
            assert time.monotonic() < deadline, "no target was started"
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert "Traceback" not in errors
    # A child that has only just started ends when it finds its input closed.
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    assert not out.exists()


@pytest.mark.parametrize(
    ("workload", "emptied"),
    [("survivors-none", 1), ("survivors-0.1-percent", 0.6), ("survivors-1-percent", 0.006)],
)
def test_a_survivor_keeps_its_table(tmp_path: Path, workload: str, emptied: float) -> None:
    """If a share of the pages survives, (1 - share) ** 512 of the tables become empty."""
    document = run_json(tmp_path, workload, "--size=1g", "--granularity=4k")
    for run in document["runs"]:
        assert run["violations"] == []
        assert run["empty_tables"] == 512 - run["counts"]["tables that a survivor keeps"]
        assert run["empty_tables"] / 512 == pytest.approx(emptied, abs=0.07)
        assert (run["survivors"] > 0) == (emptied < 1)


@pytest.mark.parametrize("workload", ["dense-1g", "huge-pages-1g"])
def test_controls_gain_nothing(tmp_path: Path, workload: str) -> None:
    """Where data is dense, or in huge pages, no table is left empty."""
    arguments = ["--size=256m", "--granularity=4k", "--granularity=64k"]
    for run in run_json(tmp_path, workload, *arguments)["runs"]:
        assert run["violations"] == []
        assert run["empty_tables"] == 0
        assert run["freed"] == {"pte": 0, "pmd": 0, "pud": 0}


def test_many_processes(tmp_path: Path) -> None:
    """All processes' tables are counted; MADV_DONTNEED frees only those of its caller."""
    for run in run_json(tmp_path, "hundred-processes", "--size=64m")["runs"]:
        assert run["violations"] == []
        assert run["contents_intact"]
        # A unit that the mapping shares with other memory of the process may stay in use.
        assert 8 * 30 <= run["empty_tables"] <= 8 * 33
        assert run["freed"]["pte"] <= 33 or run["method"] == "module"


def test_lmdb(tmp_path: Path) -> None:
    """Paging out LMDB's records leaves an empty table for each 2 MiB of them."""
    for run in run_json(tmp_path, "lmdb-reclaim", "--size=64m")["runs"]:
        assert run["violations"] == []
        assert run["contents_intact"]
        assert 32 <= run["empty_tables"] <= 40


def test_model_of_atomics(tmp_path: Path) -> None:
    """An atomic operation takes some time, but less than a fifth of a page fault."""
    atomics = run_json(tmp_path, "designs/atomics")
    for one in atomics["operations"].values():
        assert 0 < one["alone_of_fault"] < 0.2
        assert one["alone_ns"]["median"] < atomics["fault_ns"]["median"]


def test_what_counts_instructions_is_left_out(tmp_path: Path) -> None:
    """Outside a guest, a part that counts instructions is left out with a note, not an error."""
    out = tmp_path / "out"
    done = experiment("designs/when", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert "no designs/when: it counts instructions" in done.stdout
    assert not out.exists()


def test_the_command_in_the_lab(tmp_path: Path) -> None:
    """The command boots one guest for two experiments, stores their documents, draws a report."""
    done = subprocess.run(
        [
            *[PROGRAM, "experiment", "run", "survivors-none", "dense-1g", "--quick"],
            *["--kernel=6.12", f"--out={tmp_path}"],
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert "survivors-none: VmPTE under 64.0 MiB mapped, Linux 6.12." in done.stdout
    boots = len(re.findall(r"^booting 6\.12\.\S+ \.\.\.$", done.stderr, re.MULTILINE))
    assert boots == 1 + len(re.findall(r"boots once more \.\.\.$", done.stderr, re.MULTILINE))
    documents = [f"{name}-lab-6.12.json" for name in ("survivors-none", "dense-1g")]
    assert {path.name for path in tmp_path.iterdir()} >= {*documents, "report.html"}
    for document in (json.loads((tmp_path / name).read_text()) for name in documents):
        assert document["failures"] == []
        assert document["accelerator"] in ("tcg", "kvm")
        assert document["machine"]["memory"] == "4G"
        assert document["clock"]["guest_seconds"] > 0
