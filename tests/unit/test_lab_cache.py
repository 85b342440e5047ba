# SPDX-License-Identifier: MIT
"""Tests of the cache: an entry appears once it is whole, and only one process makes it."""

import errno
import os
import threading
from pathlib import Path

import pytest

from cleanup.lab import LabError
from cleanup.lab.cache import cache_dir, explained, lock, replacing
from cleanup.lab.progress import Silent


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def test_the_cache_follows_xdg(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir() == home / "cache/pgtable-cleanup"
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache_dir() == home / "home/.cache/pgtable-cleanup"


def test_an_entry_appears_when_it_is_whole() -> None:
    final = cache_dir() / "things" / "one"
    with replacing(final) as new:
        (new / "part").touch()
        assert not final.exists()
    assert [path.name for path in final.iterdir()] == ["part"]
    with replacing(final) as new:
        (new / "other").touch()
    assert [path.name for path in final.iterdir()] == ["other"]


@pytest.mark.parametrize("error", [LabError("no"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing(error: BaseException) -> None:
    final = cache_dir() / "things" / "one"

    def fail() -> None:
        with replacing(final) as new:
            (new / "part").touch()
            raise error

    with pytest.raises(type(error)):
        fail()
    assert list(final.parent.iterdir()) == []


def test_what_a_killed_process_left_goes_at_the_next_try() -> None:
    final = cache_dir() / "things" / "one"
    left = final.with_name(".one.killed")
    (left / "big").mkdir(parents=True)
    with replacing(final):
        pass
    assert list(final.parent.iterdir()) == [final]


def test_only_one_makes_an_entry() -> None:
    inside: list[str] = []
    waits = threading.Event()

    def second() -> None:
        waits.set()
        with lock("entry", Silent()):
            inside.append("second")

    with lock("entry", Silent()):
        other = threading.Thread(target=second)
        other.start()
        waits.wait()
        other.join(0.1)
        inside.append("first")
    other.join()
    assert inside == ["first", "second"]


@pytest.mark.parametrize(
    ("code", "hint"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "XDG_CACHE_HOME")]
)
def test_a_full_or_read_only_disk_is_explained(code: int, hint: str) -> None:
    with pytest.raises(LabError, match=hint), explained("write"):
        raise OSError(code, os.strerror(code))
