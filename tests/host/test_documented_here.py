# SPDX-License-Identifier: MIT
"""Tests that the commands of README.md and the tutorial run as typed, here and in a guest.

NOT_RUN lists the commands that these tests do not run, and why; every other command must
succeed.
"""

import re
import subprocess
from collections.abc import Sequence

import pytest

from cleanup.lab import Guest, Pool
from documented import README, ROOT, TUTORIAL, Command, blocks, commands

NOT_RUN = {
    "make build": "it made the environment that this test runs in",
    "make test": "this is a part of it",
    "make demo": "test_experiments_here.py runs experiments in the lab",
    "pgtable-cleanup experiment run survivors-none --quick": "likewise",
    "sudo apt install linux-headers-$(uname -r)": "a test changes no packages",
    "make -C kmod": "test_module.py builds it for each kernel, and names its headers",
    "sudo insmod kmod/pgtable_cleanup.ko": "the lab loads the module at each boot",
    "python3 -m venv ~/pgtable-env": "test_installed.py makes such an environment",
    "~/pgtable-env/bin/pip install .": "test_installed.py installs the wheel into it",
    "~/pgtable-env/bin/pgtable-cleanup features": "likewise, and runs it",
}
OPENS_A_GUEST = "pgtable-cleanup lab shell --kernel 6.12"
MARK = "--- the next command ---"


@pytest.fixture
def guest(pool: Pool) -> Guest:
    """Return a guest in which the module is loaded, like the one that `lab shell` opens."""
    return pool.guest()


def run_here(told: Sequence[Command]) -> None:
    """Run commands in one shell on this host, and compare what they print."""
    done = subprocess.run(
        ["bash", "-c", script(told)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=600,
    )
    compare(told, done.stdout, done.returncode)


def run_in(guest: Guest, told: Sequence[Command]) -> None:
    """Run commands in one shell of the guest, and compare what they print."""
    done = guest.run(["bash", "-c", script(told)], cwd=ROOT)
    compare(told, done.stdout.decode(), done.exit_code)


def script(told: Sequence[Command]) -> str:
    """Return a script of the commands that ends at the first one that fails.

    In the script sudo only runs its command; the output includes stderr, as on a terminal.
    """
    terminal = ["exec 2>&1", "export COLUMNS=100"]
    typed = (f"echo '{MARK}'\n{one.text}" for one in told)
    return "\n".join(["set -e", *terminal, 'sudo() { "$@"; }', *typed])


def compare(told: Sequence[Command], terminal: str, exit_code: int) -> None:
    """Fail where a command failed, or printed something else than the page shows.

    In the page, … stands for anything within a line, and spaces for any number of them.
    """
    printed = terminal.split(f"{MARK}\n")[1:]
    assert exit_code == 0, f"{told[len(printed) - 1].text}: exit code {exit_code}\n{printed[-1]}"
    for command, output in zip(told, printed, strict=True):
        if command.output:
            pattern = ".*".join(map(re.escape, plain(command.output).split("…")))
            found = plain(output.splitlines())
            assert re.fullmatch(pattern, found), f"{command.text} printed\n{output}"


def plain(lines: Sequence[str]) -> str:
    """Return lines of output without empty lines, and with single spaces for alignment."""
    return "\n".join(" ".join(line.split()) for line in lines if line.strip())


def to_run(told: Sequence[Command]) -> list[Command]:
    """Return the commands that NOT_RUN does not list."""
    return [command for command in told if command.text not in NOT_RUN]


def test_the_tutorial(guest: Guest) -> None:
    """The tutorial's commands for the host run in one shell, those for the guest in another."""
    told = list(commands(TUTORIAL))
    opens = next(i for i, command in enumerate(told) if command.text == OPENS_A_GUEST)
    leaves = next(i for i, command in enumerate(told) if command.text == "exit")
    inside, outside = told[opens + 1 : leaves], [*told[:opens], *told[leaves + 1 :]]
    assert all(command.as_root for command in inside)
    assert not any(command.as_root for command in outside)
    assert len(inside) >= 8
    run_here(to_run(outside))
    run_in(guest, inside)


def test_the_readme_on_this_host() -> None:
    told = [command for command in to_run(list(commands(README))) if not needs_module(command)]
    assert len(told) >= 2
    run_here(told)


def test_the_readme_with_the_module(guest: Guest) -> None:
    """The README's sudo commands run as root in a guest, and so does its Python code."""
    told = [command for command in to_run(list(commands(README))) if needs_module(command)]
    assert len(told) >= 2
    run_in(guest, told)
    (code,) = blocks(README, "python")
    done = guest.run(["python", "-c", code], cwd=ROOT)
    assert done.exit_code == 0, done.stderr.decode()
    assert "page tables" in done.stdout.decode()


def needs_module(command: Command) -> bool:
    """Return whether a command of the README needs the module: only those begin with sudo."""
    return command.text.startswith("sudo ")


def test_the_examples(guest: Guest) -> None:
    """The examples that the pages on C and Python show free the tables that they made."""
    done = guest.run(["python", "docs/examples/own_memory.py"], cwd=ROOT)
    assert done.exit_code == 0, done.stderr.decode()
    freed = re.findall(r"(\d+) were freed", done.stdout.decode())
    assert [int(number) >= 512 for number in freed] == [True]
    compiled = (
        "gcc -I allocator_shim/include docs/examples/cleanup.c -o /tmp/cleanup && /tmp/cleanup"
    )
    done = guest.run(["bash", "-c", compiled], cwd=ROOT)
    assert done.exit_code == 0, done.stderr.decode()


def test_what_is_listed_as_not_run_is_told() -> None:
    """Every command of NOT_RUN is still in the README or the tutorial."""
    told = {command.text for page in (README, TUTORIAL) for command in commands(page)}
    assert set(NOT_RUN) <= told
