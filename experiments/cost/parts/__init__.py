# SPDX-License-Identifier: MIT
"""The parts, one module each; a module takes part by defining `PART`."""

import importlib
import pkgutil

from cleanup.experiments.cost.part import Part


def registry() -> dict[str, Part]:
    """Every part of this package by its name."""
    found: dict[str, Part] = {}
    for module in pkgutil.iter_modules(__path__):
        part: Part = importlib.import_module(f"{__name__}.{module.name}").PART
        found[part.name] = part
    return dict(sorted(found.items()))
