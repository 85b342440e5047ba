# SPDX-License-Identifier: MIT
"""Tests of how the lab starts the host's programs, which never outlive their parent."""

import subprocess

from cleanup.lab.host import dies_with_us, run


def test_a_program_runs_with_its_arguments() -> None:
    done = run("sh", "-c", 'printf "%s," "$@"; exit 3', "sh", "it's", "$HOME -x")
    assert (done.stdout, done.returncode) == ("it's,$HOME -x,", 3)


def test_a_program_whose_parent_died_before_it_asked_to_be_killed_does_not_start() -> None:
    """A program whose parent is not this process, but a shell, takes itself for an orphan."""
    command = dies_with_us("sleep", "60")
    between = ["sh", "-c", '"$@"; echo "exit $?"', "sh", *command]
    done = subprocess.run(between, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "exit 1\n"
