# SPDX-License-Identifier: MIT
"""The workloads; a module takes part by defining `WORKLOAD`, or `WORKLOADS` of one kind."""

import importlib
import pkgutil
from collections.abc import Sequence

from experiments.workload import Workload


def registry() -> dict[str, Workload]:
    """Every workload of this package by its name."""
    found: dict[str, Workload] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        workloads: Sequence[Workload] = getattr(module, "WORKLOADS", None) or (module.WORKLOAD,)
        found |= {workload.name: workload for workload in workloads}
    return dict(sorted(found.items()))
