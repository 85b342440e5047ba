# SPDX-License-Identifier: MIT
"""The commit that a result comes from."""

import subprocess
from pathlib import Path

# The working directory may be in another project's checkout, which doesn't have this file.
_MARK = Path("kmod/include/uapi/pgtable_cleanup.h")
# Runs store results in evidence/: changes there have no influence on what is measured.
_CHANGED = ("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)evidence")


def commit() -> str | None:
    """Return the commit checked out here, with `-dirty` where files outside evidence/ differ.

    It is None outside a checkout of this project, and without git.
    """
    top = _git("rev-parse", "--show-toplevel")
    if top is None or not (Path(top) / _MARK).is_file():
        return None
    found = _git("rev-parse", "HEAD")
    changed = _git(*_CHANGED) if found else None
    return f"{found}-dirty" if changed else found


def is_certain(commit: str | None) -> bool:
    """Tell whether the commit of a result is known, and its files were unchanged."""
    return commit is not None and not commit.endswith("-dirty")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None
