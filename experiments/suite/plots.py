# SPDX-License-Identifier: MIT
"""Draws the plots of a suite's parts."""

from collections.abc import Sequence
from pathlib import Path

from experiments.document import SuiteDocument
from experiments.suite.registry import SUITES


def draw_all(documents: Sequence[SuiteDocument], out: Path) -> dict[str, Path]:
    """Draw every part of one suite that was measured on any kernel into a PNG file in `out`."""
    drawn: dict[str, Path] = {}
    name = documents[0]["experiment"]
    for part, draw in SUITES[name].plots().items():
        results = [
            (document["kernel"], document["parts"][part])
            for document in documents
            if part in document["parts"]
        ]
        if results:
            drawn[part] = out / f"{name}-{part}.png"
            draw(results).savefig(drawn[part], dpi=150)
    return drawn
