# SPDX-License-Identifier: MIT
"""Memory left, and the cost of a release, of each design."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.designs.parts.when import DESIGNS
from experiments.suite.bars import bars
from experiments.suite.part import Result


def draw(results: Sequence[tuple[str, Result]]) -> Figure:
    """What leaves the tables says so by its label on the kernel where it does."""
    return bars(
        [kernel for kernel, _ in results],
        [
            (
                design.label
                + "\n("
                + ", ".join(
                    f"{result['designs'][name]['left_bytes'] >> 10:,} kB left"
                    for _, result in results
                )
                + ")",
                [result["designs"][name]["release_instructions"] for _, result in results],
            )
            for name, design in DESIGNS.items()
        ],
        label="guest instructions of each release, until RCU has freed the table:\n"
        "median, least to most",
    )
