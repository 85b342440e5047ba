# SPDX-License-Identifier: MIT
"""The catalog of mutations, and what is made of verdicts; the mutations run by make mutations."""

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from proof.__main__ import TARGETS, page
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


def test_the_page_says_what_has_run_and_what_has_not() -> None:
    known = {"commit": "abc", "passed": False, "seconds": 1.5, "at": "2026-01-01T00:00:00+00:00"}
    document = {"proof": "storms", "commit": "abc", "kernel": "6.12.1", "seed": 7, "seconds": 2.0}
    html = page({TARGETS[0]: known}, [{**document, "steps": {"Faults": 3}}], [verdict()])
    assert html.count("not run") == len(TARGETS) - 1
    assert '<td class="failed">failed' in html
    assert "Faults 3" in html
    assert "BUG: a | b" in html
