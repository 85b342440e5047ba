# SPDX-License-Identifier: MIT
"""Empty tables after a mass delete by program and way, for each kernel."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.allocators.parts.mass_delete import CACHES, PROGRAMS, WAYS
from experiments.allocators.plots.tables import left_empty
from experiments.suite.part import Result


def draw(results: Sequence[tuple[str, Result]]) -> Figure:
    """Bars from zero: what was left empty."""
    names = [f"{program}, {caches}" for program in PROGRAMS for caches in CACHES]
    label = "empty page tables left after a mass delete (tables of 4 KiB)"
    return left_empty(results, names, WAYS, label)
