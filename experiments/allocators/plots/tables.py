# SPDX-License-Identifier: MIT
"""Empty tables by way, for each kernel."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.allocators.parts.tables import THREADLESS, WAYS
from experiments.allocators.ways import Way
from experiments.suite.bars import bars
from experiments.suite.part import Result
from experiments.suite.spread import spread


def draw(results: Sequence[tuple[str, Result]]) -> Figure:
    """Bars from zero: what was left empty."""
    label = "empty page tables left in the heap (tables of 4 KiB)"
    return left_empty(results, ("purge", "decay"), (*WAYS, THREADLESS), label)


def left_empty(
    results: Sequence[tuple[str, Result]], names: Sequence[str], ways: Sequence[Way], label: str
) -> Figure:
    """Bars for each of `names` of the results' `runs`, and each way that one of them was run by."""
    groups = []
    for name in names:
        runs = [result["runs"].get(name, {}) for _, result in results]
        for way in ways:
            found = [spread([run[way.name]["empty"]]) if way.name in run else None for run in runs]
            if any(found):
                groups.append((f"{name}, {way.name}", found))
    return bars([kernel for kernel, _ in results], groups, label=label, missing="not run there")
