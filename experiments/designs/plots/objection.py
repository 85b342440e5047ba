# SPDX-License-Identifier: MIT
"""What freeing tables adds to filling the memory again, by how much of it is touched."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.suite.bars import bars
from experiments.suite.part import Result


def draw(results: Sequence[tuple[str, Result]]) -> Figure:
    """In percent of a cycle that keeps its tables."""
    names = list(results[0][1]["access"])
    return bars(
        [kernel for kernel, _ in results],
        [
            (
                _label(results[0][1]["access"][name]),
                [_percent(result["access"].get(name)) for _, result in results],
            )
            for name in names
        ],
        label="instructions more for each page touched, where its table is freed and made anew (%)",
    )


def _label(one: Result) -> str:
    threads = one["threads"]
    return f"{one['pages']} of 512 pages, {threads} thread{'s' if threads > 1 else ''}"


def _percent(one: Result | None) -> Result | None:
    if one is None:
        return None
    kept = one["kept_instructions"]["median"]
    freed = one["freed_instructions"]
    return {name: 100 * (freed[name] / kept - 1) for name in ("median", "min", "max")}
