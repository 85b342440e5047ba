# SPDX-License-Identifier: MIT
"""The module's source with one protection switched off."""

import shutil
from pathlib import Path

from proof.mutations.catalog import Mutation

KMOD = Path(__file__).parents[3] / "kmod"


def mutate(mutation: Mutation, directory: Path) -> Path:
    """Copy the module's source below a directory, edited; ValueError if an edit does not fit."""
    copy = directory / "kmod"
    shutil.copytree(KMOD, copy, ignore=shutil.ignore_patterns("*.o", "*.ko", "*.mod*", ".*"))
    for edit in mutation.edits:
        path = copy / edit.file
        text = path.read_text()
        if text.count(edit.old) != 1:
            raise ValueError(
                f"{mutation.name}: {edit.file} has {text.count(edit.old)} times {edit.old!r}"
            )
        path.write_text(text.replace(edit.old, edit.new))
    return copy
