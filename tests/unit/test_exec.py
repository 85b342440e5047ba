# SPDX-License-Identifier: MIT
"""Tests of the command `exec`: what it runs, in which environment, and what it refuses."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import allocator_shim
from allocator_shim._figures import Stats
from allocator_shim.preloading import conf_in_force, environment
from cleanup import _uapi
from cleanup.commands import main
from cleanup.commands.exec import CannotExec, find, say_without_module

if TYPE_CHECKING:
    from unit.conftest import FakeModule

COMMAND = Path(sys.executable).with_name("pgtable-cleanup")
SHIM = str(allocator_shim.shim_path())


def run(
    *arguments: object, env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [COMMAND, "exec", *map(str, arguments)],
        env={"PATH": os.environ["PATH"], **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_exit_code_is_the_programs() -> None:
    assert run("--conf", "backend:null", "--", "sh", "-c", "exit 41").returncode == 41


def test_a_signal_is_the_programs() -> None:
    assert run("--conf", "backend:null", "sh", "-c", "kill -9 $$").returncode == -9


def test_options_after_the_program_are_its_own() -> None:
    assert run("--conf", "backend:null", "echo", "--stats").stdout == "--stats\n"


def test_the_environment_is_added_to() -> None:
    made = run(
        *("--stats", "--conf", "threshold:7", "sh", "-c"),
        'echo "$LD_PRELOAD|$PGTABLE_CLEANUP_CONF"',
        env={"PGTABLE_CLEANUP_CONF": "backend:null", "LD_PRELOAD": SHIM},
    )
    assert made.stdout == f"{SHIM}|backend:null,stats:exit,threshold:7\n"
    assert made.stderr == ""


def test_stats_are_said_at_the_end() -> None:
    program = "import mmap; mmap.mmap(-1, 4096).madvise(mmap.MADV_DONTNEED)"
    said = run("--stats", "--conf", "backend:null", sys.executable, "-c", program).stderr
    assert "drains=" in said
    assert "]: notes=" in said


no_module = pytest.mark.skipif(Path(_uapi.DEVICE).exists(), reason="the module is loaded")


@no_module
def test_without_the_module_stats_are_zeros_with_the_reason() -> None:
    """`exec` prints the line, as the library counts nothing; the line has the program's pid."""
    made = run("--quiet", "--stats", "sh", "-c", "echo $$")
    (line,) = made.stderr.splitlines()
    said = re.fullmatch(r"pgtable-cleanup: sh\[(\d+)\]: (.*): (/dev/.*)", line)
    assert said
    assert said[1] == made.stdout.strip()
    counts = dict(count.split("=") for count in said[2].split())
    assert list(counts) == [count.name for count in fields(Stats)]
    assert {name for name, number in counts.items() if number != "0"} == {"backoff"}
    assert said[3] == f"{_uapi.DEVICE} is not there: the kernel module is not loaded"


@no_module
@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ([], []),
        (["--stats", "--conf", "backend:null"], []),
        (["--jemalloc"], ["add --conf hooks:jemalloc"]),
        (["--jemalloc", "--quiet"], []),
        (["--jemalloc", "--conf", "hooks:jemalloc"], []),
        (["--jemalloc", "--conf", "backend:null"], []),
    ],
    ids=" ".join,
)
def test_jemalloc_without_the_module_names_the_next_step(
    options: list[str], lines: list[str]
) -> None:
    said = run(*options, "true").stderr.splitlines()
    by_exec = [line for line in said if "]: notes=" in line or "--conf" in line]
    assert len(by_exec) == len(lines)
    assert all(line.endswith(end) for line, end in zip(by_exec, lines, strict=True))


def test_with_the_module_exec_says_nothing(
    module: "FakeModule", capsys: pytest.CaptureFixture[str]
) -> None:
    say_without_module("true", conf_in_force("stats:exit"), jemalloc=True)
    assert capsys.readouterr().err == ""


@no_module
def test_quiet_has_the_library_say_nothing_of_a_missing_module() -> None:
    program = "import mmap; mmap.mmap(-1, 4096).madvise(mmap.MADV_DONTNEED)"
    assert run(sys.executable, "-c", program).stderr
    quiet = run("-q", sys.executable, "-c", program)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    stats = run("-q", "--stats", "--conf", "backend:null", sys.executable, "-c", program)
    assert "]: notes=" in stats.stderr


def test_what_a_parent_was_told_is_said_again() -> None:
    told = {"PGTABLE_CLEANUP_TOLD": "1", "PGTABLE_CLEANUP_CONF": "backend:null,x:1"}
    assert "x:1" in run("true", env=told).stderr


def test_libraries_to_preload_come_first_and_once() -> None:
    made = environment({"LD_PRELOAD": "/a.so:/b.so /c.so", "HOME": "/"}, ["/shim.so", "/b.so"], [])
    assert made == {"HOME": "/", "LD_PRELOAD": "/shim.so /b.so /a.so /c.so"}


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [("no-such-program", 127, "no such program"), ("/etc/passwd", 126, "permission denied")],
)
def test_no_program(name: str, code: int, says: str) -> None:
    ended = run(name)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert says in ended.stderr


def test_the_librarys_path_is_printed() -> None:
    shown = run("--library")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"{SHIM}\n", "")


def test_help_says_who_is_seen() -> None:
    shown = " ".join(CliRunner().invoke(main, ["exec", "--help"]).stdout.split())
    assert "sees the madvise(), munmap() and fallocate() of allocators" in shown
    assert "mimalloc, and of Java. It can't see what glibc's malloc and Go do inside" in shown


def test_nothing_to_run_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["exec"])
    assert result.exit_code == 2
    assert CliRunner().invoke(main, ["exec", "--nonsense", "true"]).exit_code == 2


@pytest.mark.parametrize(
    ("conf", "says"),
    [
        ("treshold:7", "treshold:7 is no key:value that is known; the keys are threshold,"),
        ("threshold:7,verbose:3", "verbose:3: the value must be 0, 1 or 2"),
        ("threshold", "threshold is no key:value"),
    ],
)
def test_a_typo_in_the_conf_is_a_usage_error_before_anything_runs(
    tmp_path: Path, conf: str, says: str
) -> None:
    ended = run("--conf", conf, "touch", tmp_path / "ran")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"Invalid value for '--conf': {says}" in " ".join(ended.stderr.split())
    assert not (tmp_path / "ran").exists()


def test_a_typo_in_an_inherited_conf_is_a_warning(tmp_path: Path) -> None:
    inherited = {"PGTABLE_CLEANUP_CONF": "treshold:7"}
    ended = run("--conf", "backend:null", "touch", tmp_path / "ran", env=inherited)
    assert ended.returncode == 0
    assert "PGTABLE_CLEANUP_CONF: treshold:7 is no key:value that is known" in ended.stderr
    assert (tmp_path / "ran").exists()


def test_a_static_program_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "static.c"
    source.write_text("int main(void) { return 0; }\n")
    program = tmp_path / "static"
    subprocess.run(["cc", "-static", "-o", program, source], check=True)
    with pytest.raises(CannotExec, match=r"linked statically.*reclaim PID"):
        find(str(program))
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert find(str(script)) == script


@pytest.mark.skipif(os.getuid() != 0, reason="making a program another's takes root")
def test_a_setuid_program_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "setuid"
    shutil.copy("/bin/true", program)
    program.chmod(0o4755)
    assert find(str(program)) == program, "root's own"
    os.chown(program, 65534, 65534)
    program.chmod(0o4755)
    with pytest.raises(CannotExec, match=r"setuid.*reclaim PID"):
        find(str(program))


def test_no_jemalloc_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allocator_shim.preloading.JEMALLOC", "libnothing.so.9")
    result = CliRunner().invoke(main, ["exec", "--jemalloc", "true"])
    assert result.exit_code == 126
    assert "libnothing.so.9 is not installed" in result.stderr
