# SPDX-License-Identifier: MIT
"""The parts' plots: the module of a part's name defines `draw(results)`.

`results` pairs a kernel's release with the part's result there; `draw` returns a
matplotlib Figure.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from cleanup.experiments.cost.part import Result

Draw = Callable[[Sequence[tuple[str, Result]]], Figure]


def registry() -> dict[str, Draw]:
    """Every plot by the name of its part."""
    found: dict[str, Draw] = {}
    for module in pkgutil.iter_modules(__path__):
        found[module.name] = importlib.import_module(f"{__name__}.{module.name}").draw
    return found
