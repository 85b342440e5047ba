# SPDX-License-Identifier: MIT
"""The kernel whose turn it is, for who has time to prove the module on one of them only.

    python -m proof.turn

Where the module's last change is in what some of the kernels compile, it is one of those: else any.
Among them it goes round by the number of commits.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cleanup import lab

INCLUDE = re.compile(r"^\s*#\s*include\b.*$", re.MULTILINE)


def turn(repository: Path = Path()) -> str:
    """One of lab.SOURCES; the first where git has nothing to say."""
    kernels = list(lab.SOURCES)
    try:
        number = number_of_commits(repository)
        # Of a clone without history there is no commit before.
        last = _git(repository, "log", "-1", "--format=%H", "--", "kmod").strip()
        concerned = _changed(repository, f"{last}~1", last, kernels) or kernels
    except subprocess.CalledProcessError:
        return kernels[0]
    return concerned[number % len(concerned)]


def number_of_commits(repository: Path = Path()) -> int:
    """Of the branch, so far; CalledProcessError where git has nothing to say."""
    return int(_git(repository, "rev-list", "--count", "HEAD"))


def _changed(repository: Path, old: str, new: str, kernels: Sequence[str]) -> list[str]:
    """The kernels that compile something else since then."""
    names = _git(repository, "diff", "--name-only", old, new, "--", "kmod").splitlines()
    files = [name for name in names if name.endswith((".c", ".h"))]
    return [
        kernel
        for kernel in kernels
        if any(
            _compiled(_text(repository, old, file), kernel)
            != _compiled(_text(repository, new, file), kernel)
            for file in files
        )
    ]


def _compiled(text: str, kernel: str) -> str:
    """What is left of a file for a kernel: no comments, nothing of other kernels."""
    version = "+".join(f"({part}<<{shift})" for part, shift in _parts(kernel))
    definitions = {
        "LINUX_VERSION_CODE": version,
        "KERNEL_VERSION(a,b,c)": "(((a)<<16)+((b)<<8)+(c))",
        "IS_ENABLED(option)": "0",
    }
    return subprocess.run(
        ["cpp", "-P", "-w", *(f"-D{name}={value}" for name, value in definitions.items())],
        input=INCLUDE.sub("", text),
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def _parts(kernel: str) -> Iterator[tuple[str, int]]:
    return zip(kernel.split("."), (16, 8), strict=True)


def _text(repository: Path, commit: str, file: str) -> str:
    """Empty where the file is not there, or no longer."""
    if not _git(repository, "ls-tree", "--name-only", commit, "--", file):
        return ""
    return _git(repository, "show", f"{commit}:{file}")


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.stdout.write(turn() + "\n")
