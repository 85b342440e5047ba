# SPDX-License-Identifier: MIT
"""Empty tables after a mass delete by program and way, for each kernel."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from cleanup.experiments.allocators.parts.mass_delete import CACHES, PROGRAMS, WAYS
from cleanup.experiments.suite.bars import bars
from cleanup.experiments.suite.part import Result
from cleanup.experiments.suite.spread import spread


def draw(results: Sequence[tuple[str, Result]]) -> Figure:
    """Bars from zero: what was left empty."""
    return bars(
        [kernel for kernel, _ in results],
        [
            (
                f"{program}, {caches}, {way.name}",
                [
                    spread([result["runs"][f"{program}, {caches}"][way.name]["empty"]])
                    if way.name in result["runs"].get(f"{program}, {caches}", {})
                    else None
                    for _, result in results
                ],
            )
            for program in PROGRAMS
            for caches in CACHES
            for way in WAYS
        ],
        label="empty page tables left after a mass delete (tables of 4 KiB)",
        missing="not run there",
    )
