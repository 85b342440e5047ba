# SPDX-License-Identifier: MIT
"""Shootdowns of each way to free tables."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.cost.contenders import CONTENDERS, TABLES
from experiments.suite.bars import bars
from experiments.suite.part import Result


def draw(results: Sequence[tuple[str, Result]]) -> Figure:
    """All contenders."""
    return bars(
        [kernel for kernel, _ in results],
        [
            (
                contender.label,
                [result["contenders"][name]["shootdowns"] for _, result in results],
            )
            for name, contender in CONTENDERS.items()
        ],
        label=f"TLB shootdown interrupts for {TABLES:,} tables: median, least to most",
    )
