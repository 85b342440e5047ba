# SPDX-License-Identifier: MIT
"""Tests of a guest that runs many commands, and of what one command sees of another."""

import os
import re
import shutil
import statistics
import sys
import time
from pathlib import Path

import pytest

from cleanup.lab import KernelReportError, LabError, Machine, Pool, get_kernel
from cleanup.lab.guest import Guest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def guest(pool: Pool) -> Guest:
    return pool.guest("6.12")


def sh(guest: Guest, script: str, **options: bool) -> str:
    result = guest.run(["sh", "-c", script], **options)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.stderr
    return result.stdout.decode()


def test_each_command_has_its_own_output_and_exit_code(guest: Guest) -> None:
    first = guest.run(["sh", "-c", "echo one; echo error >&2; exit 3"])
    heard: list[bytes] = []
    second = guest.run(["sh", "-c", "echo two"], on_stdout=heard.append)
    assert (first.exit_code, first.stdout, first.stderr) == (3, b"one\n", b"error\n")
    assert (second.exit_code, second.stdout, second.stderr) == (0, b"two\n", b"")
    assert b"".join(heard) == b"two\n"


def test_output_of_many_pages_comes_whole(guest: Guest) -> None:
    """The output ends without a newline, and is larger than every buffer on its way."""
    result = guest.run(["sh", "-c", "seq 200000; printf end; seq 50000 >&2"])
    assert result.stdout == b"".join(b"%d\n" % number for number in range(1, 200001)) + b"end"
    assert result.stderr == b"".join(b"%d\n" % number for number in range(1, 50001))


def test_sixty_commands_in_one_boot(guest: Guest) -> None:
    seconds = []
    for number in range(60):
        began = time.monotonic()
        result = guest.run(["/run/lab/bin/busybox", "echo", str(number)])
        seconds.append(time.monotonic() - began)
        assert result.stdout == b"%d\n" % number
    print(f"a command takes {statistics.median(seconds):.3f} s, at most {max(seconds):.3f} s")  # noqa: T201


def test_a_command_chooses_its_directory_and_environment(guest: Guest) -> None:
    result = guest.run(["sh", "-c", "pwd; echo $A"], cwd=Path("/usr"), env={"A": "it's $B"})
    assert result.stdout == b"/usr\nit's $B\n"
    assert sh(guest, "pwd; echo $A") == f"{Path.cwd()}\n\n"


def test_programs_are_the_hosts_before_busyboxs(guest: Guest) -> None:
    """The host's programs are preferred to Busybox's, whose options and exit codes differ."""
    shell = sh(guest, "readlink /proc/$$/exe")
    assert shell.strip() == os.path.realpath("/bin/sh")
    grep = shutil.which("grep")
    assert grep is not None
    assert sh(guest, "readlink -f $(command -v grep)").strip() == os.path.realpath(grep)


def test_what_a_command_leaves_running_is_killed(guest: Guest) -> None:
    """A process can't escape by forking, ignoring signals, or closing stdout and stderr."""
    script = "trap '' TERM HUP; (while :; do sleep 1000 & done) >/dev/null 2>&1 &"
    for _ in range(3):
        sh(guest, script)
        assert sh(guest, "grep -l sleep /proc/[0-9]*/comm || true") == ""


def test_files_of_one_command_are_gone_in_the_next(guest: Guest) -> None:
    places = "/tmp /dev/shm $HOME"  # noqa: S108
    sh(guest, f"for place in {places}; do mkdir -p $place/a/b; >$place/a/.c; >$place/a/b/d; done")
    assert sh(guest, f"cd /tmp; find {places} -name a") == ""


def test_files_are_kept_where_that_is_asked_for(guest: Guest) -> None:
    sh(guest, "echo kept >/tmp/file")
    assert sh(guest, "cat /tmp/file", keep_files=True) == "kept\n"


def test_what_is_visible_below_tmp_is_not_cleaned(guest: Guest, tmp_path: Path) -> None:
    """The host's files that are visible below /tmp must not be changed by a guest."""
    (tmp_path / "file").write_text("seen")
    assert sh(guest, f"cat {tmp_path}/file") == "seen"
    assert sh(guest, f"rm {tmp_path}/file 2>/dev/null || cat {tmp_path}/file") == "seen"
    assert (tmp_path / "file").read_text() == "seen"


def test_each_command_has_its_own_results(guest: Guest, tmp_path: Path) -> None:
    """Results are on the host as soon as they are written, even if the command fails."""
    script = 'echo "$0" >"$PGTABLE_CLEANUP_RESULTS/file"; echo written; sleep 0.5; exit 5'
    seen = []
    for name in ("one", "two"):
        directory = tmp_path / name
        directory.mkdir()

        def look(_: bytes, file: Path = directory / "file") -> None:
            seen.append(file.read_text())

        result = guest.run(["sh", "-c", script, name], results=directory, on_stdout=look)
        assert result.exit_code == 5
        assert result.results == directory
    assert seen == ["one\n", "two\n"]
    assert sh(guest, 'echo "$PGTABLE_CLEANUP_RESULTS"') == "\n"


def test_results_elsewhere_are_refused_and_the_guest_goes_on(guest: Guest) -> None:
    with pytest.raises(LabError, match="not below the directory that this guest can write to"):
        guest.run(["true"], results=ROOT)
    assert guest.run(["true"]).exit_code == 0


def test_a_command_that_is_too_long_is_refused_and_the_guest_goes_on(guest: Guest) -> None:
    with pytest.raises(LabError, match="too long"):
        guest.run(["true"], env={"A": "a" * 200_000})
    length = 100_000
    result = guest.run(["sh", "-c", "echo ${#A}"], env={"A": "a" * length})
    assert result.stdout == b"%d\n" % length


def test_the_log_is_the_commands_own(guest: Guest) -> None:
    assert "hello" in guest.run(["sh", "-c", "echo hello >/dev/kmsg"]).dmesg
    assert guest.run(["true"]).dmesg == ""


def test_python_finds_the_checkout_and_builds_nothing(guest: Guest) -> None:
    """The guest's root is read-only, so no import may run a build."""
    program = (
        "import sys; sys.addaudithook(lambda name, _: name == 'subprocess.Popen' and print(name));"
        "import cleanup, experiments; print(cleanup.__file__, experiments.__file__)"
    )
    result = guest.run([sys.executable, "-P", "-c", program])
    assert result.stdout.decode().split() == [
        f"{ROOT}/cleanup/__init__.py",
        f"{ROOT}/experiments/__init__.py",
    ]


def test_a_guest_is_shared_by_equal_machines(pool: Pool, guest: Guest) -> None:
    assert pool.guest(get_kernel("6.12"), Machine()) is guest


def test_a_report_ends_the_guest_and_names_the_command(guest: Guest) -> None:
    """A bug that the kernel reports, at any log level, ends even the guest that tests share."""
    report = "BUG: Bad page state in process test"
    with pytest.raises(KernelReportError) as caught:
        guest.run(["sh", "-c", f"echo '<6>{report}' >/dev/kmsg; echo out"])
    message = str(caught.value)
    assert re.match(r"the guest's kernel reported a bug while it ran: sh -c 'echo ", message)
    assert report in message
    (line,) = caught.value.reports
    assert line.endswith(report)
    with pytest.raises(LabError, match="runs no more commands: the guest's kernel reported a bug"):
        guest.run(["true"])
