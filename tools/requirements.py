#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Print what pyproject.toml requires to build, run, test and lint, one requirement a line.

The project itself is then installed without its dependencies, by the build tools of the same
environment: quick, and the same however often it is repeated.
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
