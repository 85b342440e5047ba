# SPDX-License-Identifier: MIT
"""Tests of sweeps on this machine: nothing is run twice, whatever is killed midway."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from host.test_experiments_here import PROGRAM

SIZES = ("512m", "1g", "2g")
WORKLOADS = ("series-50g", "tebibyte")
COMMAND = [
    *[PROGRAM, "experiment", "sweep", *WORKLOADS, "--host", "--granularity=4k"],
    *[
        "--method=none",
        "--method=zap",
        "--keep-other-commits",
        *(f"--size={size}" for size in SIZES),
    ],
]
POINTS = 2 * len(WORKLOADS) * len(SIZES)


def written(out: Path) -> dict[str, int]:
    """Return when each result was written, by file name."""
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.json")}


def swept(out: Path, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [*COMMAND, f"--out={out}", "--json", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_in_the_middle_it_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*COMMAND, f"--out={tmp_path}", "--workers=1"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as sweep:
        assert sweep.stderr is not None
        for line in sweep.stderr:
            if line.startswith("3 of"):
                break
        children = psutil.Process(sweep.pid).children(recursive=True)
        sweep.send_signal(number)
        sweep.wait(60)
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert gone
    assert not alive, "workers and what they measured have ended, too"
    before = written(tmp_path)
    assert 3 <= len(before) < POINTS
    answer = swept(tmp_path)
    assert len(answer["kept"]) == len(before)
    assert len(answer["measured"]) == POINTS - len(before)
    after = written(tmp_path)
    assert len(after) == POINTS
    assert before.items() <= after.items()
    again = swept(tmp_path)
    assert (len(again["kept"]), again["measured"]) == (POINTS, [])


@contextmanager
def cluster(directory: Path, workers: int) -> Iterator[tuple[str, list[int]]]:
    """Start a scheduler and workers as one does by hand on several machines."""
    file = directory / "scheduler.json"
    commands = [
        ["dask_scheduler", "--port=0", "--host=127.0.0.1", f"--scheduler-file={file}"],
        *[["dask_worker", f"--scheduler-file={file}", "--nthreads=1", "--no-nanny"]] * workers,
    ]
    started = []
    try:
        for command in commands:
            module, *options = command
            started.append(
                subprocess.Popen(
                    [
                        *[sys.executable, "-P", "-m", f"distributed.cli.{module}"],
                        *[*options, "--no-dashboard"],
                    ],
                    cwd=directory,
                    stderr=subprocess.DEVNULL,
                )
            )
            while not file.exists():
                assert started[0].poll() is None
                time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        yield address, [process.pid for process in started[1:]]
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_worker_that_is_killed_costs_no_result(tmp_path: Path) -> None:
    """When one of two workers is killed, the other measures what the killed one had begun."""
    out = tmp_path / "out"
    with (
        cluster(tmp_path, 2) as (address, workers),
        subprocess.Popen(
            [*COMMAND, f"--out={out}", f"--scheduler={address}", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as sweep,
    ):
        assert sweep.stderr is not None
        for line in sweep.stderr:
            if re.match(r"2 of", line):
                os.kill(workers[0], signal.SIGKILL)
        assert sweep.stdout is not None
        answer = json.loads(sweep.stdout.read())
        assert sweep.wait(60) == 0
    assert answer["failed"] == {}
    assert len(answer["measured"]) == POINTS
    assert len(written(out)) == POINTS


def test_no_scheduler_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, f"--out={tmp_path}", "--scheduler=tcp://127.0.0.1:9"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert "there is no Dask scheduler at tcp://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
