# SPDX-License-Identifier: MIT
"""Empty tables by way, for each kernel."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from cleanup.experiments.allocators.parts.tables import WAYS
from cleanup.experiments.suite.bars import bars
from cleanup.experiments.suite.part import Result
from cleanup.experiments.suite.spread import spread


def draw(results: Sequence[tuple[str, Result]]) -> Figure:
    """Bars from zero: what was left empty."""
    return bars(
        [kernel for kernel, _ in results],
        [
            (
                f"{release}, {way.name}",
                [
                    spread([result["runs"][release][way.name]["empty"]])
                    if way.name in result["runs"].get(release, {})
                    else None
                    for _, result in results
                ],
            )
            for release in ("purge", "decay")
            for way in WAYS
        ],
        label="empty page tables left in the heap (tables of 4 KiB)",
        missing="not run there",
    )
