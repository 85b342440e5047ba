# SPDX-License-Identifier: MIT
"""Empty tables by way, for each kernel."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from cleanup.experiments.allocators.parts.tables import WAYS
from cleanup.experiments.allocators.ways import Way
from cleanup.experiments.suite.bars import bars
from cleanup.experiments.suite.part import Result
from cleanup.experiments.suite.spread import spread


def draw(results: Sequence[tuple[str, Result]]) -> Figure:
    """Bars from zero: what was left empty."""
    label = "empty page tables left in the heap (tables of 4 KiB)"
    return left_empty(results, ("purge", "decay"), WAYS, label)


def left_empty(
    results: Sequence[tuple[str, Result]], names: Sequence[str], ways: Sequence[Way], label: str
) -> Figure:
    """A group of bars for each of `names` of the result's `runs`, and for each way."""
    return bars(
        [kernel for kernel, _ in results],
        [
            (
                f"{name}, {way.name}",
                [
                    spread([result["runs"][name][way.name]["empty"]])
                    if way.name in result["runs"].get(name, {})
                    else None
                    for _, result in results
                ],
            )
            for name in names
            for way in ways
        ],
        label=label,
        missing="not run there",
    )
