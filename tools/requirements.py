#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Print what pyproject.toml requires to build, run, test and lint, one requirement a line.

With these installed, the project itself is built by the tools of the same environment, and without
looking for dependencies.  That is quick, and gives the same result each time.
"""

import sys
import tomllib
from pathlib import Path

pyproject = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
project = pyproject["project"]
requirements = {*pyproject["build-system"]["requires"], *project["dependencies"]}
for extra in project["optional-dependencies"].values():
    requirements.update(line for line in extra if not line.startswith(project["name"]))
sys.stdout.writelines(f"{line}\n" for line in sorted(requirements))
