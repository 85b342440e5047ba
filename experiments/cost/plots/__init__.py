# SPDX-License-Identifier: MIT
"""The parts' plots: the module of a part's name defines `draw(results)`.

`results` pairs a kernel's release with the part's result there; `draw` returns a
matplotlib Figure.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from cleanup.experiments.cost.part import Result
from cleanup.experiments.document import CostDocument

Draw = Callable[[Sequence[tuple[str, Result]]], Figure]


def registry() -> dict[str, Draw]:
    """Every plot by the name of its part."""
    found: dict[str, Draw] = {}
    for module in pkgutil.iter_modules(__path__):
        found[module.name] = importlib.import_module(f"{__name__}.{module.name}").draw
    return found


def draw_all(documents: Sequence[CostDocument], out: Path) -> dict[str, Path]:
    """Draw every part that was measured on any of the kernels into a PNG file in `out`."""
    drawn: dict[str, Path] = {}
    for name, draw in registry().items():
        results = [
            (document["kernel"], document["parts"][name])
            for document in documents
            if name in document["parts"]
        ]
        if results:
            drawn[name] = out / f"{documents[0]['experiment']}-{name}.png"
            draw(results).savefig(drawn[name], dpi=150)
    return drawn
