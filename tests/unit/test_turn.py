# SPDX-License-Identifier: MIT
"""Which kernel's turn it is."""

import subprocess
from pathlib import Path

import pytest

from cleanup import lab
from proof.turn import turn

SOURCE = """\
#include <linux/mm.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0)
int newest;
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
int middle;
#else
int oldest;
#endif
int every; /* said of it */
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A module with a history of one commit."""
    (tmp_path / "kmod").mkdir()
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    commit(tmp_path, SOURCE)
    return tmp_path


def commit(repository: Path, text: str) -> None:
    (repository / "kmod" / "tree.c").write_text(text)
    git = ["git", "-C", str(repository), "-c", "user.name=me", "-c", "user.email=me@example.org"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "more"], check=True)


@pytest.mark.parametrize(
    ("word", "kernel"), [("newest", "7.3"), ("middle", "6.12"), ("oldest", "6.1")]
)
def test_it_is_the_kernel_whose_code_changed(repository: Path, word: str, kernel: str) -> None:
    commit(repository, SOURCE.replace(word, f"{word}_now"))
    commit(repository, SOURCE.replace(word, f"{word}_now"))
    assert turn(repository) == kernel


@pytest.mark.parametrize("word", ["every", "said"])
def test_what_all_compile_or_none_has_them_take_turns(repository: Path, word: str) -> None:
    changed = SOURCE.replace(word, f"{word}_now")
    seen = []
    for _ in lab.SOURCES:
        commit(repository, changed)
        seen.append(turn(repository))
    assert sorted(seen) == sorted(lab.SOURCES)


def test_without_history_it_is_the_first(tmp_path: Path, repository: Path) -> None:
    first = next(iter(lab.SOURCES))
    assert turn(tmp_path / "nothing") == first
    assert turn(repository) == first
