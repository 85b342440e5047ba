# SPDX-License-Identifier: MIT
"""Instructions a table, of each way to free them."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.cost.contenders import CONTENDERS
from experiments.suite.bars import bars
from experiments.suite.part import Result


def draw(results: Sequence[tuple[str, Result]]) -> Figure:
    """What frees nothing on a kernel has no bar, but a word."""
    return bars(
        [kernel for kernel, _ in results],
        [
            (
                contender.label,
                [
                    None
                    if contender.idle(figures["vmpte_fall_bytes"])
                    else figures["instructions_per_table"]
                    for figures in (result["contenders"][name] for _, result in results)
                ],
            )
            for name, contender in CONTENDERS.items()
        ],
        label="guest instructions for each PTE table, until RCU has freed it:\n"
        "median, least to most",
        missing="frees nothing",
    )
