# SPDX-License-Identifier: MIT
"""The catalog of mutations, and what is made of verdicts; the mutations run by make mutations."""

import inspect
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cleanup import lab
from cleanup.lab.progress import Silent
from proof import guests
from proof.guests import Job, Seen
from proof.mutations.__main__ import Bench
from proof.mutations.catalog import ALL, MUTATIONS, Edit, Mutation
from proof.mutations.mutate import KMOD, mutate
from proof.mutations.table import markdown


def verdict(**more: Any) -> dict[str, Any]:  # noqa: ANN401 -- what JSON holds
    return {
        "name": "i_mmap lock",
        "kernel": "6.12.1-debug",
        "caught": True,
        "runs": 5,
        "caught_runs": 4,
        "report": "BUG: a | b",
        **more,
    }


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_changes_the_module_that_there_is(mutation: Mutation, tmp_path: Path) -> None:
    copy = mutate(mutation, tmp_path)
    for edit in mutation.edits:
        assert (copy / edit.file).read_text() != (KMOD / edit.file).read_text()
    assert set(mutation.kernels) <= set(ALL)
    assert bool(mutation.elsewhere) == (set(mutation.kernels) != set(ALL))
    module, _, function = mutation.scenario.partition(".")
    assert inspect.isfunction(getattr(import_module(f"proof.scenarios.{module}"), function))


def test_an_edit_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    stale = Mutation("stale", [Edit("scan.c", "no such text", "")], "faults.no_write_is_lost")
    with pytest.raises(ValueError, match=r"stale: scan\.c has 0 times 'no such text'"):
        mutate(stale, tmp_path)


def test_the_table_says_where_a_protection_does_not_matter() -> None:
    lines = markdown([verdict()]).splitlines()
    assert "| i_mmap lock | 6.12.1-debug | 4 of 5 | `BUG: a ¦ b` |" in lines
    assert any(
        line.startswith("| VMA locks | 6.1 | does not matter | 6.4 brought") for line in lines
    )


def look_at(
    monkeypatch: pytest.MonkeyPatch, outcomes: dict[tuple[int, bool], str]
) -> tuple[bool, str]:
    """`Bench.look` with these outcomes by seed, and whether the protection was off."""

    def run(jobs: Sequence[Job], *_: object, module: Path | None, **__: object) -> dict[Job, Seen]:
        found = {job: outcomes[job.seed, module is not None] for job in jobs}
        return {job: Seen(outcome, f"{outcome} {job.seed}") for job, outcome in found.items()}

    monkeypatch.setattr(guests, "run", run)
    monkeypatch.setattr(lab, "build_module", lambda *_, **__: Path("module.ko"))
    kernel = lab.Kernel("6.12", "6.12.1-debug", Path(), Path(), Path())
    bench = Bench(kernel, range(1, 4), 1.0, Silent())
    return bench.look(MUTATIONS[0])


def test_a_look_ends_with_the_run_that_catches(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = {
        (1, False): "inconclusive",
        (2, False): "passed",
        (2, True): "passed",
        (3, False): "passed",
        (3, True): "failed",
    }
    assert look_at(monkeypatch, outcomes) == (True, "failed 3")


def test_a_look_catches_nothing_where_the_module_itself_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caught, report = look_at(monkeypatch, {(1, False): "failed", (1, True): "failed"})
    assert not caught
    assert report == "the module as it is failed: failed 1"
