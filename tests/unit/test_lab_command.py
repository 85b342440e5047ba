# SPDX-License-Identifier: MIT
"""Tests of `pgtable-cleanup lab` that need no guest."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cleanup.commands import main
from cleanup.lab import SOURCES, KernelNotServed, machine


def test_a_kernel_that_is_not_served_has_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The exit code lets test runs skip a kernel that Debian no longer serves, and say why."""

    def get_kernel(_name: str, **_options: object) -> None:
        raise KernelNotServed("Debian serves no linux 7.3 any more")

    monkeypatch.setattr(machine, "qemu_version", lambda: (10, 0))
    monkeypatch.setattr("cleanup.commands.lab.get_kernel", get_kernel)
    result = CliRunner().invoke(main, ["lab", "run", "--kernel", "7.3", "true"])
    assert result.exit_code == 69
    assert result.stderr == "pgtable-cleanup: Debian serves no linux 7.3 any more\n"


def test_kernels_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    modules = tmp_path / "pgtable-cleanup/kernels/6.12/lib/modules/6.12.1-amd64"
    modules.mkdir(parents=True)
    for name in ("vmlinuz", "modules.dep"):
        (modules / name).touch()
    document = json.loads(CliRunner().invoke(main, ["lab", "kernels", "--json"]).stdout)
    assert [each["name"] for each in document["kernels"]] == list(SOURCES)
    releases = {each["name"]: each["release"] for each in document["kernels"]}
    assert releases == dict.fromkeys(SOURCES) | {"6.12": "6.12.1-amd64"}
    shown = CliRunner().invoke(main, ["lab", "kernels"]).stdout
    assert "6.12.1-amd64" in shown
    assert "not downloaded yet" in shown
