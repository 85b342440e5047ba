# SPDX-License-Identifier: MIT
"""The workloads, one module each; a module takes part by defining `WORKLOAD`."""

import importlib
import pkgutil

from cleanup.experiments.workload import Workload


def registry() -> dict[str, Workload]:
    """Every workload of this package by its name."""
    found: dict[str, Workload] = {}
    for module in pkgutil.iter_modules(__path__):
        workload: Workload = importlib.import_module(f"{__name__}.{module.name}").WORKLOAD
        found[workload.name] = workload
    return dict(sorted(found.items()))
