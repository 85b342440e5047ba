# SPDX-License-Identifier: MIT
"""Tests of the commit that a result is said to come from."""

import subprocess
from pathlib import Path

import pytest

from experiments.provenance import commit


def git(*arguments: str) -> None:
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a checkout that looks like this project's, with a result kept in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("kmod/include/uapi/pgtable_cleanup.h", "evidence/kept.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text("first\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message=first")
    return tmp_path


def test_files_that_differ_are_told(checkout: Path) -> None:
    clean = commit()
    assert clean is not None
    assert len(clean) == 40
    (checkout / "kmod/include/uapi/pgtable_cleanup.h").write_text("second\n")
    assert commit() == f"{clean}-dirty"


def test_evidence_is_none_of_what_is_measured(checkout: Path) -> None:
    clean = commit()
    (checkout / "evidence/kept.json").write_text("second\n")
    assert commit() == clean


def test_another_checkout_has_no_say(checkout: Path) -> None:
    git("rm", "--quiet", "-r", "kmod")
    assert commit() is None
