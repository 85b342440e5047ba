# SPDX-License-Identifier: MIT
"""Runs at once, by a program made up: order, failures, and what an interruption leaves."""

import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import psutil
import pytest

from experiments import side_by_side
from experiments.side_by_side import Task

PROGRAM = """\
#!{python}
import json, sys, time
assert sys.argv[1:3] == ["experiment", "run"] and sys.argv[-2:] == ["--json", "--unstored"]
name, seconds = sys.argv[3:5]
print("working", file=sys.stderr, flush=True)
time.sleep(float(seconds))
if name != "broken":
    print(json.dumps({{"experiment": name}}))
"""


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for pgtable-cleanup."""
    path = tmp_path / "pgtable-cleanup"
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))


def test_two_at_once() -> None:
    """They come as they end, and a third begins when the first has."""
    tasks = [
        Task("slow", ["slow", "5"]),
        Task("quick", ["quick", "0.2"]),
        Task("next", ["next", "0.2"]),
    ]
    found = [
        (task.name, document["experiment"] if document else None)
        for task, document, _said in side_by_side.run(tasks, 2)
    ]
    assert found == [(name, name) for name in ("quick", "next", "slow")]


def test_a_run_without_a_result_says_why() -> None:
    """And costs no other's."""
    tasks = [Task("broken", ["broken", "0"]), Task("whole", ["whole", "0"])]
    found = {task.name: (document, said) for task, document, said in side_by_side.run(tasks, 1)}
    assert found["broken"] == (None, "working\n")
    document, _said = found["whole"]
    assert document is not None
    assert document["experiment"] == "whole"


def test_who_is_interrupted_ends_them() -> None:
    """No process is left."""
    runs = side_by_side.run([Task("quick", ["quick", "0"]), Task("long", ["long", "60"])], 2)
    assert next(runs)[0].name == "quick"
    children = psutil.Process().children()
    assert any("60" in child.cmdline() for child in children)
    runs.close()  # type: ignore[attr-defined]
    assert not [child for child in children if child.is_running() and "60" in child.cmdline()]


def test_who_is_killed_takes_them_along(tmp_path: Path) -> None:
    """Even where it has no time to end them."""
    script = (
        "import sysconfig\n"
        f"sysconfig.get_path = lambda _name: {str(tmp_path)!r}\n"
        "from experiments.side_by_side import Task, run\n"
        "list(run([Task('long', ['long', '60'])], 1))\n"
    )
    with subprocess.Popen([sys.executable, "-P", "-c", script]) as process:
        children: list[psutil.Process] = []
        while not any("60" in child.cmdline() for child in children):
            assert process.poll() is None
            time.sleep(0.05)
            children = psutil.Process(process.pid).children()
        process.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


def test_as_many_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """One at least."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for gib, jobs in ((2, 1), (11, 2), (100, 4)):
        monkeypatch.setattr(
            psutil, "virtual_memory", lambda gib=gib: type("_", (), {"available": gib << 30})
        )
        assert side_by_side.at_once() == jobs
