# SPDX-License-Identifier: MIT
"""Tests that README.md and docs/ quote figures of the stored results."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_figure_is_of_a_stored_result() -> None:
    """`tools/figures` finds no figure that it would have to correct."""
    done = subprocess.run(
        [sys.executable, "-P", str(ROOT / "tools/figures"), "--check"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"run make figures:\n{done.stderr}"
