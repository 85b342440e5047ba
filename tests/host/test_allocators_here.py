# SPDX-License-Identifier: MIT
"""Tests of the parts of `allocators` that need neither the module nor a quiet machine."""

import json
import subprocess
from pathlib import Path
from typing import Any

from host.test_experiments_here import PROGRAM


def measured(part: str, out: Path) -> Any:  # noqa: ANN401 -- JSON
    done = subprocess.run(
        [
            *[PROGRAM, "experiment", "run", f"allocators/{part}", "--host", "--quick", "--json"],
            f"--out={out}",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    (document,) = json.loads(done.stdout)["experiments"]
    return document["measured"]


def test_the_hooks_leave_next_to_nothing_empty(tmp_path: Path) -> None:
    runs = measured("tables", tmp_path)["runs"]["purge"]
    assert runs["none"]["empty"] >= 8, "jemalloc leaves empty tables"
    assert runs["hooks"]["empty"] <= 2
    assert (tmp_path / "allocators-tables.png").exists()


def test_forks_of_an_emptied_process(tmp_path: Path) -> None:
    runs = measured("fork", tmp_path)["runs"]
    none, zap = runs["none"], runs["zap"]
    assert none["child_vmpte_bytes"] >= 2048 * 4096, "the child has all of them"
    assert none["freed"] == 0
    assert zap["freed"] in {0, *range(2000, 2100)}
    if zap["freed"]:
        assert zap["child_vmpte_bytes"] <= 1 << 20


def test_a_mass_delete(tmp_path: Path) -> None:
    runs = measured("mass-delete", tmp_path)["runs"]
    assert set(runs) == {"a heap, with thread caches", "redis-server, with thread caches"}
    for methods in runs.values():
        assert methods["none"]["peak"] >= 4, "8 MiB have as many tables"
        assert methods["hooks"]["empty"] <= 2
    assert (tmp_path / "allocators-mass-delete.png").exists()
