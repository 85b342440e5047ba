# SPDX-License-Identifier: MIT
"""The command `experiment`: its arguments, its failures, and what it asks of the lab."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cleanup import lab
from cleanup.commands import main
from experiments import side_by_side
from experiments.suite.registry import SUITES
from experiments.workloads import registry
from unit.test_experiment_report import made_document, made_run
from unit.test_lab_guest import made_result


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["experiment", *arguments])


def test_list() -> None:
    """Every module of the package is found."""
    assert set(registry()) == {
        *["balloon-2g", "dense-1g", "huge-pages-1g", "hundred-processes", "lmdb-reclaim"],
        *[
            "series-50g",
            "shared-memfd-32g",
            "sparse-file-256g",
            "survivors-0.1-percent",
            "survivors-1-percent",
        ],
        *["survivors-none", "tebibyte", "tebibyte-empty", "workers-file-32g", "zero-pages-256g"],
    }
    shown = invoke("list")
    assert shown.exit_code == 0
    named = sorted([*SUITES, *registry()])
    assert [line.split()[0] for line in shown.stdout.splitlines()] == named
    described = json.loads(invoke("list", "--json").stdout)["experiments"]
    assert [one["name"] for one in described] == named


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "tebibit"], "choose from allocators, balloon-2g, dense-1g"),
        (["run"], "name an experiment, or give --all"),
        (["run", "tebibyte", "--host", "--kernel", "6.1"], "leave out --kernel"),
        (["run", "tebibyte", "--touch", "all"], "tebibyte has no --touch all"),
        (["run", "tebibyte", "--size", "3k"], "such as 64g"),
        (["run", "tebibyte", "--size", "3m"], "such as 64g"),
        (["run", "tebibyte", "--size", "0g"], "such as 64g"),
        (["run", "tebibyte", "--backend", "remap"], "remap"),
        (["run", "tebibyte", "--granularity", "8k"], "8k"),
        (["run", "zero-pages-256g", "--granularity", "4k"], "has no --granularity 4k"),
        (["run", "tebibyte", "--repeat", "0"], "repeat"),
    ],
)
def test_bad_usage(arguments: list[str], said: str) -> None:
    """Exit code 2, and what to do instead; nothing on standard output."""
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_an_out_that_cannot_be_is_found_early(tmp_path: Path) -> None:
    """Not after the measuring."""
    (tmp_path / "file").touch()
    result = invoke("run", "tebibyte", "--host", "--out", str(tmp_path / "file" / "out"))
    assert result.exit_code == 1
    assert "choose another --out" in result.stderr


class FakeLab:
    """Answers with a document and remembers what it was asked."""

    def __init__(self, stdout: bytes, exit_code: int = 0) -> None:
        self.stdout, self.exit_code = stdout, exit_code
        self.asked: list[tuple[list[str], dict[str, Any]]] = []

    def run(self, command: list[str], **options: Any) -> lab.GuestResult:  # noqa: ANN401
        """In place of `lab.run`."""
        self.asked.append((command, options))
        return made_result(exit_code=self.exit_code, stdout=self.stdout)


def test_the_lab_runs_the_same_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With --host, every choice passed on, once for each kernel."""
    fake = FakeLab(json.dumps(made_document()).encode())
    monkeypatch.setattr(lab, "run", fake.run)
    options = "--granularity=64k --granularity=2m --backend=module --size=64g --seed=5 --repeat=2"
    result = invoke(
        *["run", "series-50g", "--kernel", "6.1", "--kernel", "7.3", "--json"],
        *[*options.split(), "--touch=all", f"--out={tmp_path}"],
    )
    assert result.exit_code == 0, result.output
    assert [asked["kernel"] for _, asked in fake.asked] == ["6.1", "7.3"]
    command, asked = fake.asked[0]
    assert command[1:6] == ["experiment", "run", "series-50g", "--host", "--json"]
    assert {*options.split(), "--touch=all"} - {"--size=64g"} <= set(command)
    assert "--size=65536m" in command
    assert asked["memory"] == "2621M", "2 GiB are enough for 50"
    assert [one["kernel"] for one in json.loads(result.stdout)["experiments"]] == [
        made_document()["kernel"]
    ] * 2
    stored = json.loads((tmp_path / "series-50g-lab-6.12.json").read_text())
    assert stored["clock"]["agree"] is True
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "series-50g-vmpte.png").exists()


def test_quick_does_not_size_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It only runs once, by the module alone."""
    fake = FakeLab(json.dumps(made_document()).encode())
    monkeypatch.setattr(lab, "run", fake.run)
    arguments = [*registry(), "--quick", "--jobs=1", "--json", f"--out={tmp_path}"]
    assert invoke("run", *arguments).exit_code == 0
    assert [command[3] for command, _ in fake.asked] == list(registry())
    for command, asked in fake.asked:
        assert asked["disk"] == registry()[command[3]].guest_disk
        assert asked["kernel"] == "6.12"
        assert "--repeat=1" in command
        assert [word for word in command if word.startswith("--backend")] == ["--backend=module"]
        assert f"--size={registry()[command[3]].size_bytes >> 20}m" in command


def test_a_guest_without_a_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A clear message, nothing on standard output, no file."""
    monkeypatch.setattr(lab, "run", FakeLab(b"", exit_code=1).run)
    result = invoke("run", "tebibyte", "--json", f"--out={tmp_path / 'out'}")
    assert result.exit_code == 1
    assert "without a result" in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_broken_invariant_fails_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """But its figures are kept and shown."""
    document = made_document()
    broken = made_run("module", freed=3)
    broken["violations"] = ["contents changed"]
    document["runs"].append(broken)
    monkeypatch.setattr(lab, "run", FakeLab(json.dumps(document).encode(), exit_code=1).run)
    result = invoke("run", "series-50g", "--json", f"--out={tmp_path}")
    assert result.exit_code == 1
    assert "module at 4k: contents changed" in result.stderr
    assert json.loads(result.stdout)["runs"][-1]["violations"] == ["contents changed"]
    assert (tmp_path / "series-50g-lab-6.12.json").exists()


def test_what_was_measured_before_a_failure_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A second kernel that can't be had does not cost the first one's results."""
    fake = FakeLab(json.dumps(made_document()).encode())

    def run(command: list[str], **options: Any) -> lab.GuestResult:  # noqa: ANN401
        if fake.asked:
            raise lab.LabError("no such kernel")
        return fake.run(command, **options)

    monkeypatch.setattr(lab, "run", run)
    result = invoke("run", "series-50g", "--kernel=6.12", "--kernel=9.9", f"--out={tmp_path}")
    assert result.exit_code == 1
    assert "no such kernel" in result.stderr
    assert (tmp_path / "series-50g-lab-6.12.json").exists()


def test_a_target_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process ending early is an error with a next step, not a stack trace."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    result = invoke("run", "tebibyte", "--host", "--backend", "none")
    assert result.exit_code == 1
    assert "ended with status 1" in result.stderr


def test_several_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each gets the options as they were given; one without a result fails the run at its end."""
    asked: list[tuple[str, list[str]]] = []

    def run(
        tasks: Sequence[side_by_side.Task], jobs: int
    ) -> Iterator[tuple[side_by_side.Task, None, str]]:
        assert jobs == 3
        for task in tasks:
            asked.append((task.name, list(task.arguments)))
            yield task, None, "out of memory\n"

    monkeypatch.setattr(side_by_side, "run", run)
    result = invoke(
        *["run", "series-50g", "designs", "--kernel=6.1", "--kernel=7.3", "--quick", "--jobs=3"],
        *["--seed=5", f"--out={tmp_path / 'out'}"],
    )
    assert result.exit_code == 1
    assert "series-50g on 7.3:\nout of memory" in result.stderr
    assert [name for name, _ in asked] == [
        *["designs on 6.1", "designs on 7.3", "series-50g on 6.1", "series-50g on 7.3"]
    ]
    assert asked[0][1] == ["designs", "--kernel=6.1", "--seed=5", "--quick"]


def test_jobs_are_for_guests() -> None:
    """On the host they would disturb each other."""
    result = invoke("run", "series-50g", "tebibyte", "--host", "--jobs=2")
    assert result.exit_code == 2
    assert "leave out --jobs" in result.stderr
