# SPDX-License-Identifier: MIT
"""Tests of stored proofs: what is stored, which of them count, and which are run again."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cleanup import lab
from proof import __main__ as command
from proof import content, evidence, standing
from proof.mutations.catalog import MUTATIONS
from proof.mutations.mutate import mutate
from proof.proofs import PROOFS
from proof.standing import standings
from proof.task import Outcome, ProofFailed, Task

SHORT = [(name, line) for line in lab.SOURCES for name in ("storms", "mutations", "fuzz")]


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Store short proofs of today's module for every kernel; the lab has no kernel yet."""
    monkeypatch.setattr(standing, "cached_kernel", lambda *_: None)
    for name, line in SHORT:
        evidence.store(document(name, line), "", tmp_path)
    return tmp_path


def document(name: str, line: str, **changed: object) -> dict[str, Any]:
    about = PROOFS[name].about(line, "short")
    return {
        "proof": name,
        "scale": "short",
        "line": line,
        "kernel": f"{line}.1-debug",
        "module": about.module,
        "sources": about.sources,
        **changed,
    }


def unproved(stored: Path, kmod: Path = content.KMOD) -> list[tuple[str, str, str]]:
    return [
        (one.proof.name, one.line, one.obstacle)
        for one in standings("short", stored=stored, kmod=kmod)
        if one.obstacle
    ]


def test_proofs_of_the_module_as_it_is_stand(stored: Path) -> None:
    assert unproved(stored) == []
    assert [(one.proof.name, one.line) for one in standings("short", stored=stored)] == SHORT


def test_a_fault_put_into_the_module_asks_for_all_proofs(stored: Path, tmp_path: Path) -> None:
    """The fault is a mutation that leaves out the recheck under the pte lock."""
    fault = next(one for one in MUTATIONS if one.name == "recheck under the pte lock")
    found = unproved(stored, mutate(fault, tmp_path))
    assert found == [(*one, "the module has changed since it was proved") for one in SHORT]


def test_a_comment_in_the_module_asks_for_none(stored: Path, tmp_path: Path) -> None:
    kmod = mutate(replace(MUTATIONS[0], edits=[]), tmp_path)
    (kmod / "tree.c").write_text("/* Said anew. */\n" + (kmod / "tree.c").read_text())
    assert unproved(stored, kmod) == []


def test_what_changes_for_one_kernel_asks_for_its_proofs(stored: Path, tmp_path: Path) -> None:
    """The module is changed to take the mmap lock for writing on 7.3 alone."""
    kmod = mutate(replace(MUTATIONS[0], edits=[]), tmp_path)
    protocol = kmod / "compat/protocol.h"
    text, count = re.subn(r"(PGTC_MMAP_WRITE\s+)false", r"\1true", protocol.read_text())
    assert count == 1
    protocol.write_text(text)
    assert {line for _, line, _ in unproved(stored, kmod)} == {"7.3"}


@pytest.mark.parametrize(
    ("changed", "obstacle"),
    [
        ({"module": "another"}, "the module has changed since it was proved"),
        ({"module": None}, "the module has changed since it was proved"),
        ({"sources": "others"}, "the proof has changed since it passed"),
    ],
)
def test_another_proof_is_none(stored: Path, changed: dict[str, object], obstacle: str) -> None:
    evidence.store(document("storms", "7.3", **changed), "", stored)
    assert unproved(stored) == [("storms", "7.3", obstacle)]


def test_a_proof_that_is_not_there_is_none(stored: Path) -> None:
    evidence.path("fuzz", "6.1", "short", stored).unlink()
    assert unproved(stored) == [("fuzz", "6.1", "it was not proved")]


def test_a_newer_kernel_is_said_and_fails_nothing(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = lab.Kernel("6.12-debug", "6.12.2-debug", Path(), Path(), Path())
    monkeypatch.setattr(
        standing, "cached_kernel", lambda line, _build: newer if line == "6.12" else None
    )
    assert unproved(stored) == []
    said = [str(one) for one in standings("short", stored=stored)]
    assert "storms on 6.1: passed" in said
    assert "storms on 6.12: passed, proved on 6.12.1-debug, and not yet on 6.12.2-debug" in said


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Fake the proof `storms`, which fails on 6.1; return the kernels on which it was run."""
    seen: list[str] = []

    def run(task: Task) -> Outcome:
        seen.append(task.line)
        (task.work / "half.json").write_text("1")
        if task.line == "6.1":
            raise ProofFailed("a byte was lost")
        return Outcome({"steps": 7}, "[ 1.0] Linux version 6\n[ 2.0] noise\n")

    faked = replace(PROOFS["storms"], run=run)
    monkeypatch.setitem(PROOFS, "storms", faked)
    for other in set(PROOFS) - {"storms"}:
        monkeypatch.delitem(PROOFS, other)
    kernel = lab.Kernel("debug", "6.12.1-debug", tmp_path, Path(), Path())
    monkeypatch.setattr(command, "_kernel", lambda *_: kernel)
    monkeypatch.setattr(standing, "cached_kernel", lambda *_: None)
    monkeypatch.setattr(command, "WORK", tmp_path / "work")
    return seen


def all_proofs(out: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(command.main, ["all", f"--out={out}", *options])
    return done.exit_code, done.output


def test_all_runs_what_did_not_pass_and_stores_what_did(runs: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said = all_proofs(out)
    assert (code, runs) == (command.FAILED, ["6.1", "6.12", "7.3"])
    assert "FAILED: a byte was lost" in said
    assert "failed: storms on 6.1" in said
    assert evidence.read("storms", "6.1", "short", out) is None
    found = evidence.read("storms", "6.12", "short", out)
    assert found is not None
    assert found.items() >= {"kernel": "6.12.1-debug", "steps": 7, "amount": "60 seconds"}.items()
    assert found["module"] == content.of_module("6.12")
    log = evidence.path("storms", "6.12", "short", out).with_suffix(".dmesg")
    assert "Linux version 6" in log.read_text()
    # A second run repeats only the proof that failed.
    runs.clear()
    code, said = all_proofs(out)
    assert (code, runs) == (command.FAILED, ["6.1"])
    assert "storms on 7.3: passed" in said
    runs.clear()
    assert all_proofs(out, "--kernel=7.3", "--again")[0] == 0
    assert runs == ["7.3"]


def test_a_kernel_that_is_not_served_is_skipped(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel's proofs are skipped once Debian's backports have a newer kernel in its place."""

    def gone(*_: object) -> lab.Kernel:
        raise lab.KernelNotServed("trixie-backports has no linux-image-7.3")

    monkeypatch.setattr(command, "_kernel", gone)
    code, said = all_proofs(tmp_path, "--kernel=7.3")
    assert (code, runs) == (0, [])
    assert "skipped: trixie-backports has no linux-image-7.3" in said


@pytest.mark.parametrize(
    ("options", "stored"),
    [
        (["--seed=1"], True),
        (["--amount=60"], True),
        (["--amount=59"], False),
        (["--only=Faults"], False),
        (["--cpus=2"], False),
        (["--memory=1G"], False),
    ],
)
def test_only_a_complete_run_is_stored(
    runs: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    stored: bool,
) -> None:
    monkeypatch.setattr(command, "STORED", tmp_path)
    one = command._command(PROOFS["storms"])
    done = CliRunner().invoke(one, ["--kernel=6.12", f"--out={tmp_path}", *options])
    assert done.exit_code == 0, done.output
    assert (evidence.read("storms", "6.12", "short", tmp_path) is not None) == stored


def test_a_module_that_changes_meanwhile_is_not_proved(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = iter(["before", "after"])
    monkeypatch.setattr(content, "of_module", lambda *_: next(hashes))
    with pytest.raises(ProofFailed, match="changed meanwhile"):
        command.prove(PROOFS["storms"], "6.12", "short", out=tmp_path)


def test_logs_are_trimmed() -> None:
    noise = ["[    6.0] again", "[    6.1] again", "[    6.2] again", "", "[    7.0] other"]
    assert evidence.trimmed("\n".join(noise)).splitlines() == [
        "[    6.0] again",
        "... 2 times more ...",
        "[    7.0] other",
    ]
    long = [f"[    8.{n:03}] line {n}" for n in range(evidence.MOST_LOG_LINES + 101)]
    kept = evidence.trimmed("\n".join(long)).splitlines()
    assert len(kept) == evidence.MOST_LOG_LINES + 1
    assert "... 101 lines are left out ..." in kept
    assert (kept[0], kept[-1]) == (long[0], long[-1])


def test_a_stored_log_does_not_say_where_it_was_made() -> None:
    checkout = Path(__file__).parents[2]
    log = f"while it ran: {checkout}/.venv/bin/python --load={Path.home()}/.cache/x.ko\n"
    assert evidence.trimmed(log) == "while it ran: .venv/bin/python --load=~/.cache/x.ko\n"
