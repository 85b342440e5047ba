# SPDX-License-Identifier: MIT
"""Tests of what all verbs share: --json, -q, and how failures and wrong values are reported."""

import errno
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import psutil
import pytest
from click.testing import CliRunner, Result

import cleanup
from cleanup import _uapi
from cleanup.commands import main
from cleanup.commands._output import json_option, print_document
from cleanup.commands._params import size_in

if TYPE_CHECKING:
    from unit.conftest import FakeModule


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def children() -> Iterator[list[int]]:
    made = [
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(3)
    ]
    yield [child.pid for child in made]
    for child in made:
        child.communicate()


def test_the_device_is_opened_once_a_command(
    module: "FakeModule", children: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    open_device = _uapi.open_device

    def counted() -> int:
        opened.append(open_device())
        return opened[-1]

    monkeypatch.setattr(_uapi, "open_device", counted)
    for verb in ("scan", "reclaim"):
        opened.clear()
        assert run(verb, *children).exit_code == 0
        (fd,) = opened
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert len(module.calls) == 2 * len(children)


@pytest.mark.parametrize(
    ("arguments", "error", "code"),
    [
        (
            ("scan", "--json", "--cgroup", "/nosuch"),
            {
                "message": "/nosuch: no such cgroup",
                "errno": None,
                "hint": "give a directory, or a name below the cgroup2 mount such as "
                "system.slice/cron.service",
            },
            1,
        ),
        (
            ("scan", "--json"),
            {
                "message": "name the processes in one way: PIDs, --all, --cgroup PATH or "
                "--mappers FILE",
                "errno": None,
                "hint": "pgtable-cleanup scan --help",
            },
            2,
        ),
        (
            ("reclaim", "--nonsense", "--json", "1"),
            {
                "message": "No such option '--nonsense'.",
                "errno": None,
                "hint": "pgtable-cleanup reclaim --help",
            },
            2,
        ),
    ],
    ids=["no cgroup", "no target", "no such option"],
)
def test_under_json_a_failure_is_a_document_too(
    module: "FakeModule", arguments: tuple[str, ...], error: dict[str, str | None], code: int
) -> None:
    result = CliRunner().invoke(main, list(arguments), prog_name="pgtable-cleanup")
    assert result.exit_code == code
    assert json.loads(result.stdout) == {"error": error}
    assert str(error["message"]) in result.stderr
    without = [argument for argument in arguments if argument != "--json"]
    assert CliRunner().invoke(main, without).stdout == ""


def test_under_json_a_missing_module_is_a_document_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(_uapi, "open_device", fail)
    result = run("scan", "--json", "1")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["errno"]) == (1, "ENOENT")
    assert error["message"].endswith("the kernel module is not loaded")
    assert "insmod" in error["hint"]


def test_a_report_that_says_why_the_command_failed_is_the_one_document(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When a command raises the error that its JSON report shows, no second document follows."""

    @click.command("fails")
    @json_option
    def fails(as_json: bool) -> None:
        print_document({"error": {"message": "so", "errno": None, "hint": None}})
        raise cleanup.CleanupError("so")

    monkeypatch.setattr(main, "get_command", lambda *_: fails)
    result = run("fails", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["message"] == "so"
    assert result.stderr == "pgtable-cleanup: so\n"


def test_what_follows_two_dashes_is_no_option_of_ours() -> None:
    assert run("scan", "--nonsense", "--", "--json").stdout == ""


def test_quiet_leaves_notes_out_and_keeps_errors(
    module: "FakeModule",
    children: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(psutil, "pids", lambda: [os.getpid()])
    file = tmp_path / "file"
    file.write_bytes(b"x")
    for verb in ("scan", "reclaim"):
        assert run(verb, "--mappers", file).stderr.endswith(f"no process maps {file}\n")
        for option in ("-q", "--quiet"):
            result = run(verb, option, "--mappers", file)
            assert (result.exit_code, result.stderr) == (0, "")
    module.fails = lambda _call: errno.EPERM
    result = run("reclaim", "-q", children[0])
    assert result.exit_code == 1
    assert "CAP_SYS_NICE" in result.stderr


def test_every_verb_takes_quiet_and_says_what_json_is() -> None:
    with click.Context(main) as context:
        for verb in ("features", "scan", "reclaim"):
            command = main.get_command(context, verb)
            assert command is not None
            options = {name for param in command.params for name in param.opts}
            assert {"-q", "--quiet", "--json"} <= options


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("scan", "python3"), "'python3' is no pid: `pidof python3` finds those of a program"),
        (("scan", "a;b"), "`pidof 'a;b'`"),
        (("scan", "0"), "'0' is no pid: a pid is 1 or more"),
        (("reclaim", "--max-hold", "500000", "1"), "'500000' has no unit: write 500us"),
        (("reclaim", "--max-hold", "0us", "1"), "a duration is at least 1ns"),
        (("lab", "run", "--memory", "10m", "true"), "10m: a guest needs more to boot: give 256m"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1],
)
def test_a_wrong_value_is_refused_with_a_right_one(arguments: tuple[str, ...], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("0", "0 (0 bytes): one table maps that much: give a multiple of 2m, such as 64g"),
        ("10", "10 (10 bytes): one table maps that much: give a multiple of 2m, such as 64g"),
        ("257m", "257m: one table maps that much: give a multiple of 2m, such as 64g"),
        ("much", "'much' is no size"),
    ],
)
def test_a_size_that_makes_no_sense_is_refused_with_one_that_does(value: str, says: str) -> None:
    size = size_in(2 << 20, "one table maps that much")
    with pytest.raises(click.BadParameter) as caught:
        size(value)
    assert caught.value.message.startswith(says)
    assert size("1g") == 1 << 30


@pytest.mark.parametrize("verb", ["scan", "reclaim"])
def test_help_explains_each_reason_for_which_a_table_is_left_alone(verb: str) -> None:
    shown = run(verb, "--help").stdout
    assert max(map(len, shown.splitlines())) <= 80
    words = " ".join(shown.split())
    for reason in cleanup.SkipReason:
        assert f"{reason} {reason.__doc__}" in words
    assert '"left alone"' in words


def imports(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (
            "experiments",
            "the experiments come with a checkout of pgtable-cleanup: run `make build`",
        ),
        ("jinja2", "the experiments need jinja2: run `make build`"),
    ],
)
def test_without_the_experiments_all_else_works(module: str, says: str) -> None:
    """Without the experiments, or without what they import, only `experiment` fails."""
    started = f"""
        import sys
        class Lacks:
            def find_spec(self, name, path, target=None):
                if name == "experiments":
                    raise ModuleNotFoundError(name="{module}")
        sys.meta_path.insert(0, Lacks())
        from cleanup.commands import main
        main(%s, prog_name="pgtable-cleanup")
    """
    shown = imports(started % ["--help"])
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "experiment" in shown.stdout
    for arguments in (["experiment"], ["experiment", "run", "tebibyte", "--host"]):
        ended = imports(started % arguments)
        assert (ended.returncode, ended.stdout) == (1, "")
        (line,) = ended.stderr.splitlines()
        assert line.startswith(f"pgtable-cleanup: {says}")
    assert imports(started % ["features", "--json"]).returncode == 0
