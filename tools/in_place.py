#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Make the checkout importable in place: put a link to each built library beside its sources.

meson-python's editable install finds the packages by an import hook that runs ninja at each start
of Python.  Processes that start together then spoil ninja's log, and a guest of the lab, whose root
is read-only, could not import anything.  So a plain path takes the place of the hook: Python,
editors and mypy all read the tree itself.

    tools/in_place.py BUILD_DIRECTORY
"""

import json
import os
import sys
import sysconfig
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
HOOK = Path(sysconfig.get_path("purelib"), "pgtable-cleanup-editable.pth")


def main(build: Path) -> None:
    """Link each library of the packages into the tree, and put the tree on Python's path."""
    plan = json.loads((build / "meson-info/intro-install_plan.json").read_text())
    for built, target in plan["targets"].items():
        place = PurePosixPath(target["destination"])
        if place.parts[0] == "{py_platlib}":
            _link(ROOT.joinpath(*place.parts[1:]), Path(built))
    HOOK.write_text(f"{ROOT}\n")


def _link(link: Path, target: Path) -> None:
    """Make or replace a link in one step: another process may be importing the library."""
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(os.path.relpath(target, link.parent))
    new.replace(link)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
