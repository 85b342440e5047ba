# SPDX-License-Identifier: MIT
"""Tests of cgroups on made-up files; tests in guests cover the cgroups of a real kernel."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from cleanup import cgroup
from cleanup.errors import CleanupError


@pytest.fixture
def group(tmp_path: Path) -> Path:
    for path, pids in ((tmp_path, "10\n"), (tmp_path / "a", "0\n11\n"), (tmp_path / "a/b", "")):
        path.mkdir(exist_ok=True)
        (path / "cgroup.procs").write_text(pids)
        (path / "cgroup.controllers").write_text("memory pids\n")
    (tmp_path / "memory.stat").write_text("anon 4096\npagetables 8192\nshmem 0\n")
    return tmp_path


def test_processes_of_it_and_below(group: Path) -> None:
    assert cgroup.processes(group) == {10, 11}
    assert cgroup.processes(group / "a") == {11}
    assert cgroup.processes(group / "a/b") == set()


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENODEV, errno.EACCES])
def test_cgroups_that_list_no_processes(
    group: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    read_text: Callable[[Path], str] = Path.read_text

    def refusing(path: Path) -> str:
        if path.parent.name == "a":
            raise OSError(number, "Refused")
        return read_text(path)

    monkeypatch.setattr(Path, "read_text", refusing)
    if number == errno.EACCES:
        with pytest.raises(CleanupError, match=r"a/cgroup\.procs: refused"):
            cgroup.processes(group)
    else:
        assert cgroup.processes(group) == {10}


def test_page_tables(group: Path) -> None:
    assert cgroup.pagetables_bytes(group) == 8192
    assert cgroup.pagetables_bytes(group / "a") is None  # This cgroup has no memory controller.


def test_by_path_and_by_name(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "root", lambda: group)
    assert cgroup.find(str(group / "a")) == cgroup.find("a") == group / "a"
    assert cgroup.find("a/b") == group / "a/b"
    with pytest.raises(CleanupError, match="no such cgroup: give a directory, or a name below"):
        cgroup.find("c")
    (group / "v1").mkdir()
    with pytest.raises(CleanupError, match="not a cgroup2 directory"):
        cgroup.find("v1")
