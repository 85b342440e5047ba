# SPDX-License-Identifier: MIT
"""Which commit a result comes from."""

import subprocess
from pathlib import Path

# Only this project's checkout has it: not every git checkout that one may stand in is ours.
_MARK = Path("kmod/include/uapi/pgtable_cleanup.h")


def commit() -> str | None:
    """The commit checked out here, with `-dirty` where files differ from it.

    None outside a checkout of this project, and without git.
    """
    top = _git("rev-parse", "--show-toplevel")
    if top is None or not (Path(top) / _MARK).is_file():
        return None
    return _git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None
