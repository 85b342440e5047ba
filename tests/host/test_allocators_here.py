# SPDX-License-Identifier: MIT
"""The experiment `allocators` on this machine: what needs no module, and no quiet."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from host.test_costs_in_lab import PROGRAM

pytestmark = pytest.mark.measured


def measured(part: str, out: Path) -> Any:  # noqa: ANN401 -- JSON
    done = subprocess.run(
        [
            *[PROGRAM, "experiment", "run", "allocators", "--host", "--quick", "--json"],
            *[f"--part={part}", f"--out={out}"],
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["parts"][part]


def test_the_hooks_leave_next_to_nothing_empty(tmp_path: Path) -> None:
    found = measured("tables", tmp_path)
    runs = found["runs"]["purge"]
    assert runs["plain"]["empty"] >= 100, "jemalloc leaves empty tables"
    assert all(claim["met"] for claim in found["claims"]), found["claims"]
    assert any("hooks" in claim["claim"] for claim in found["claims"])
    assert (tmp_path / "allocators-tables.png").exists()


def test_forks_of_an_emptied_process(tmp_path: Path) -> None:
    found = measured("fork", tmp_path)
    plain = found["runs"]["plain"]
    assert plain["child_vmpte_bytes"] >= 32_768 * 4096, "the child has all of them"
    assert plain["freed"] == 0
    assert all(claim["met"] for claim in found["claims"]), found["claims"]
    zap = found["runs"]["zap"]
    assert zap["freed"] in {0, *range(32_700, 32_800)}
    if zap["freed"]:
        assert zap["child_vmpte_bytes"] <= 1 << 20


def test_a_mass_delete(tmp_path: Path) -> None:
    runs = measured("mass_delete", tmp_path)["runs"]
    assert set(runs) == {"a heap, with thread caches", "redis-server, with thread caches"}
    for ways in runs.values():
        assert ways["plain"]["peak"] >= 60, "128 MiB have as many tables"
        assert ways["hooks"]["empty"] <= 2
        # 8 to 12, but for a few that go by whether the host has paged out the program's own file.
        assert ways["hooks"]["empty"] < ways["plain"]["empty"]
    assert (tmp_path / "allocators-mass_delete.png").exists()
