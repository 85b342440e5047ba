# SPDX-License-Identifier: MIT
"""Tests that the notebooks run, on the stored results and on small ones of this machine."""

import json
import subprocess
import sysconfig
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "experiments/notebooks").glob("*.ipynb"))
PROGRAM = str(Path(sysconfig.get_path("scripts")) / "pgtable-cleanup")


def executed(notebook: Path) -> tuple[str, int]:
    """Run a notebook; return what it prints and how many pictures it shows."""
    content = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(
        content,
        timeout=180,
        kernel_name="python3",
        resources={"metadata": {"path": str(notebook.parent)}},
    ).execute()
    outputs = [one for cell in content.cells for one in cell.get("outputs", ())]
    printed = "".join(one.text for one in outputs if one.output_type == "stream")
    return printed, sum("image/png" in one.get("data", {}) for one in outputs)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measure a workload, a control and a part of a suite on this machine."""
    out = tmp_path_factory.mktemp("results")
    for arguments in (
        ["survivors-0.1-percent", "--size=256m"],
        ["dense-1g", "--size=256m"],
        ["designs/atomics"],
    ):
        subprocess.run(
            [PROGRAM, "experiment", "run", "--host", "--quick", f"--out={out}", *arguments],
            check=True,
            capture_output=True,
            timeout=300,
        )
    return out


def test_there_are_four() -> None:
    """There are four notebooks; each names its licence, and none holds output."""
    assert [one.stem[:2] for one in NOTEBOOKS] == ["01", "02", "03", "04"]
    for notebook in NOTEBOOKS:
        content = json.loads(notebook.read_text(encoding="utf-8"))
        assert "MIT" in content["metadata"]["license"]
        assert all(not cell.get("outputs") for cell in content["cells"])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_results(notebook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every notebook draws something from the results that the documentation quotes."""
    monkeypatch.delenv("PGTABLE_CLEANUP_RESULTS", raising=False)
    printed, pictures = executed(notebook)
    assert "7.3." in printed
    assert pictures >= 1


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_without_results_it_says_so(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook without results stops with a message, not with empty tables and figures."""
    monkeypatch.setenv("PGTABLE_CLEANUP_RESULTS", str(tmp_path))
    with pytest.raises(CellExecutionError, match=f"no results in {tmp_path}"):
        executed(notebook)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_small_results(notebook: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where most results are missing, a notebook shows those that are there."""
    monkeypatch.setenv("PGTABLE_CLEANUP_RESULTS", str(small))
    printed, _pictures = executed(notebook)
    assert "dense-1g" in printed
    if notebook.stem.startswith("01"):
        assert "of the tables empty" in printed
