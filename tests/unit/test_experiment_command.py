# SPDX-License-Identifier: MIT
"""Tests of the command `experiment`: arguments, failures, stored results, what it runs."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cleanup.commands import main
from experiments import document as documents
from experiments import provenance, registry, report, runner
from experiments.document import Document
from experiments.part import Part, Scale
from unit.stored import stored

WRITE_ALL = report.write_all


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["experiment", *arguments])


def test_list() -> None:
    """`list` shows every part under its group, and in JSON the machine that the part needs."""
    shown = invoke("list")
    assert shown.exit_code == 0
    named = {line.split()[0] for line in shown.stdout.splitlines() if line.startswith(" ")}
    assert named == set(registry.all_parts())
    described = {
        one["name"]: one for one in json.loads(invoke("list", "--json").stdout)["experiments"]
    }
    assert set(described) == named
    assert described["reclaim-cost/holds"]["machine"]["icount"] is True
    assert described["tebibyte"]["size_bytes"] == 1 << 40


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tebibit"], "choose from allocators, allocators/arenas, allocators/calls, "),
        ([], "name an experiment, or give --all"),
        (["tebibyte", "--host", "--kernel", "6.1"], "leave out --kernel"),
        (["tebibyte", "--host", "--jobs=2"], "leave out --jobs"),
        (["tebibyte", "--touch", "all"], "tebibyte has no --touch all"),
        (["reclaim-cost", "--size", "64g"], "reclaim-cost/faults has no --size"),
        (["tebibyte", "--size", "3k"], "one page table maps 2 MiB"),
        (["tebibyte", "--size", "3m"], "give a multiple of 2m"),
        (["tebibyte", "--method", "remap"], "remap"),
        (["tebibyte", "--granularity", "8k"], "8k"),
        (["tebibyte", "--repeat", "0"], "repeat"),
    ],
)
def test_bad_usage(arguments: list[str], said: str) -> None:
    """Bad usage ends with code 2 and advice, and prints nothing on standard output."""
    result = invoke("run", *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_an_out_that_cannot_be_is_found_early(tmp_path: Path) -> None:
    """An unusable --out is refused before anything is measured."""
    (tmp_path / "file").touch()
    result = invoke("run", "tebibyte", "--host", "--out", str(tmp_path / "file" / "out"))
    assert result.exit_code == 1
    assert "choose another --out" in result.stderr


class FakeRunner:
    """A runner that answers with stored documents, and remembers what it was asked for."""

    def __init__(self, **changed: Any) -> None:  # noqa: ANN401
        self.changed = changed
        self.asked: list[tuple[str, str]] = []
        self.scale = Scale()
        self.jobs = 0

    def in_lab(
        self, wanted: Sequence[tuple[Part, str]], scale: Scale, *, jobs: int
    ) -> Iterator[Document]:
        """Yield a stored document for each part and kernel, in place of `runner.in_lab`."""
        self.asked, self.scale, self.jobs = [(p.name, k) for p, k in wanted], scale, jobs
        asked = scale.to_json()
        del asked["seed"]
        for name, kernel in self.asked:
            yield stored(name, kernel, commit="abc", scale=asked, **self.changed)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRunner:
    fake = FakeRunner()
    # The report is left out, because drawing takes long.
    monkeypatch.setattr(report, "write_all", lambda _documents, _out: [])
    monkeypatch.setattr(runner, "in_lab", fake.in_lab)
    monkeypatch.setattr(runner, "at_once", lambda: 3)
    monkeypatch.setattr(provenance, "commit", lambda: "abc")
    return fake


def test_every_choice_is_passed_on(
    fake: FakeRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner gets all options, for each kernel; its results are stored, drawn and printed."""
    monkeypatch.setattr(report, "write_all", WRITE_ALL)
    options = "--granularity=64k --granularity=2m --method=module --size=64g --seed=5 --repeat=2"
    result = invoke(
        *["run", "series-50g", "--kernel", "6.1", "--kernel", "7.3", "--json"],
        *[*options.split(), "--touch=all", "--quick", f"--out={tmp_path}"],
    )
    assert result.exit_code == 0, result.output
    assert fake.asked == [("series-50g", "6.1"), ("series-50g", "7.3")]
    assert fake.scale == Scale(True, 64 << 30, ("64k", "2m"), "all", 2, ("module",), 5)
    shown = json.loads(result.stdout)["experiments"]
    kept = [json.loads((tmp_path / f"series-50g-lab-{k}.json").read_text()) for k in ("6.1", "7.3")]
    assert shown == kept
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "series-50g-vmpte.png").exists()


def test_one_document_is_in_a_list_as_many_are(fake: FakeRunner, tmp_path: Path) -> None:
    """--json prints a list of documents, whether there is one or many."""
    result = invoke("run", "designs/when", "--kernel=7.3", "--json", f"--out={tmp_path}")
    assert [one["part"] for one in json.loads(result.stdout)["experiments"]] == ["designs/when"]


def test_the_former_name_of_method_works(fake: FakeRunner, tmp_path: Path) -> None:
    """--backend still works, but the help does not show it."""
    arguments = ["tebibyte", "--backend=none", "--method=module", f"--out={tmp_path}"]
    assert invoke("run", *arguments).exit_code == 0
    assert set(fake.scale.methods) == {"none", "module"}
    assert "--backend" not in invoke("run", "--help").stdout


def test_jobs(fake: FakeRunner, tmp_path: Path) -> None:
    """One guest runs at a time; with --quick, as many run as the host has room for."""
    for options, jobs in (([], 1), (["--quick"], 3), (["--quick", "--jobs=2"], 2)):
        assert invoke("run", "tebibyte", *options, f"--out={tmp_path}").exit_code == 0
        assert fake.jobs == jobs


def test_a_failure_is_told_and_costs_no_result(fake: FakeRunner, tmp_path: Path) -> None:
    """A part that fails keeps its figures; standard output is still one JSON document."""
    fake.changed = {"failures": ["module at 4k: contents changed"]}
    result = invoke("run", "tebibyte", "--json", f"--out={tmp_path}")
    assert result.exit_code == 1
    assert "tebibyte on 6.12.117+deb13-amd64: module at 4k: contents changed" in result.stderr
    (shown,) = json.loads(result.stdout)["experiments"]
    assert shown["failures"] == fake.changed["failures"]
    assert (tmp_path / "tebibyte-lab-6.12.json").exists()


def test_what_was_not_measured_is_not_stored(fake: FakeRunner, tmp_path: Path) -> None:
    """An experiment that gave no figures must not replace an earlier result."""
    fake.changed = {"measured": None, "failures": ["no such kernel"]}
    result = invoke("run", "tebibyte", f"--out={tmp_path / 'out'}")
    assert result.exit_code == 1
    assert "no such kernel" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("commit", "options", "again"),
    [
        ("abc", [], 1),
        ("abc", ["--quick"], 3),
        ("abc", ["--seed=2"], 3),
        ("abc-dirty", [], 3),
        ("def", [], 3),
        (None, [], 3),
    ],
)
def test_what_is_there_is_not_measured_again(
    commit: str | None,
    options: list[str],
    again: int,
    fake: FakeRunner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """--resume skips only what this commit, with no file modified, measured at the same scale."""
    names, out = ["designs/when", "reclaim-cost/holds", "tebibyte"], f"--out={tmp_path}"
    assert invoke("run", *names[:2], "--kernel=7.3", out).exit_code == 0
    monkeypatch.setattr(provenance, "commit", lambda: commit)
    assert invoke("run", *names, "--kernel=7.3", "--resume", *options, out).exit_code == 0
    assert len(fake.asked) == again
    assert invoke("run", *names, "--kernel=7.3", *options, out).exit_code == 0
    assert len(fake.asked) == 3


def test_results_are_stored_as_they_come(
    fake: FakeRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption loses only what was not yet measured."""

    def interrupted(*arguments: Any, **options: Any) -> Iterator[Document]:  # noqa: ANN401
        yield next(fake.in_lab(*arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "in_lab", interrupted)
    assert invoke("run", "designs/when", "tebibyte", "--kernel=7.3", f"--out={tmp_path}").exit_code
    assert [path.name for path in tmp_path.iterdir()] == ["designs-when-lab-7.3.json"]


def test_a_target_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A target process that ends early is reported as an error, not with a stack trace."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    result = invoke("run", "tebibyte", "--host", "--method", "none", f"--out={tmp_path}")
    assert result.exit_code == 1
    assert "ended with status 1" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_part_is_measured_on_this_machine() -> None:
    """A part can be measured on this machine, and gives a document without failures."""
    scale = Scale(quick=True, size_bytes=64 << 20, methods=("none",))
    part = registry.find("tebibyte")
    assert part is not None
    document = documents.measure(part, scale)
    assert document["failures"] == []
    assert document["measured"] is not None
    assert document["measured"]["parameters"]["size_bytes"] == 64 << 20
