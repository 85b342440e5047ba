# SPDX-License-Identifier: MIT
"""The suites there are."""

import importlib
import pkgutil

import experiments
from experiments.suite.suite import Suite


def _found() -> dict[str, Suite]:
    packages = (
        importlib.import_module(f"{experiments.__name__}.{module.name}")
        for module in pkgutil.iter_modules(experiments.__path__)
        if module.ispkg
    )
    suites: list[Suite] = [package.SUITE for package in packages if hasattr(package, "SUITE")]
    return {suite.name: suite for suite in sorted(suites, key=lambda suite: suite.name)}


SUITES = _found()
"""By name: of each package of experiments that is one, its `SUITE`."""
