# SPDX-License-Identifier: MIT
"""What `make proof` runs again, and the page that it writes."""

from pathlib import Path
from typing import Any

import pytest

from proof import __main__ as proof
from proof.__main__ import PROOFS, made_of, page

TARGET = "storms-6.12"


def known(**changed: object) -> dict[str, Any]:
    passed = {
        "commit": "abc",
        "made_of": made_of(TARGET),
        "passed": True,
        "seconds": 1.5,
        "at": "2026-01-01T00:00:00+00:00",
    }
    return passed | changed


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (known(), '"passed">passed\n'),
        (known(passed=False), '"failed">failed\n'),
        (known(made_of="another module"), '"failed">passed, of what it was before\n'),
    ],
    ids=["passed", "failed", "passed before"],
)
def test_the_page_says_what_has_run_and_what_has_not(found: dict[str, Any], verdict: str) -> None:
    document = {"proof": "storms", "commit": "abc", "kernel": "6.12.1", "seed": 7, "seconds": 2.0}
    mutation = {
        "name": "i_mmap lock",
        "kernel": "6.12.1",
        "caught": True,
        "caught_runs": 4,
        "runs": 5,
        "report": "BUG: a | b",
    }
    seedless = {"proof": "selftests", "commit": "abc", "kernel": "6.12.1", "seconds": 9.0}
    documents = [{**document, "steps": {"Faults": 3}}, seedless]
    html = page({TARGET: found}, documents, [mutation])
    assert html.count("not run") == len(PROOFS) - 1
    assert verdict in html
    assert "Faults 3" in html
    assert "seed 7, 2.0 s" in html
    assert "abc, 9.0 s" in html
    assert "BUG: a | b" in html


def test_a_changed_module_or_proof_is_proved_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("kmod/a.c", "kmod/a.mod.c", "tests/proof/fuzz/a.py")
    files = {name: tmp_path / name for name in names}
    for file in files.values():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("as it was")
    monkeypatch.setattr(proof, "ROOT", tmp_path)
    monkeypatch.setattr(proof, "HERE", tmp_path / "tests/proof")
    before = {name: made_of(name) for name in ("fuzz-6.1", "selftests-6.12")}
    files["kmod/a.mod.c"].write_text("made by a build")
    assert made_of("fuzz-6.1") == before["fuzz-6.1"]
    files["tests/proof/fuzz/a.py"].write_text("changed")
    assert made_of("fuzz-6.1") != before["fuzz-6.1"]
    assert made_of("selftests-6.12") == before["selftests-6.12"]
    files["kmod/a.c"].write_text("changed")
    assert made_of("selftests-6.12") != before["selftests-6.12"]
