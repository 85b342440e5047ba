# SPDX-License-Identifier: MIT
"""The longest hold of the mmap lock in each pass of the module."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.suite.bars import bars
from experiments.suite.part import Result


def draw(results: Sequence[tuple[str, Result]]) -> Figure:
    """Holds for writing and for reading; a pass without one has no bar."""
    passes = results[0][1]["passes"]
    return bars(
        [kernel for kernel, _ in results],
        [
            (
                f"{one['tables_of']}, {one['mapping'].replace('_', ' ')}, {kind}",
                [
                    result["passes"][name][f"longest_{kind}_instructions"]
                    if result["passes"][name][f"{kind}_holds"]
                    else None
                    for _, result in results
                ],
            )
            for kind in ("write", "read")
            for name, one in passes.items()
        ],
        label="guest instructions of the longest hold of the mmap lock:\nmedian, least to most",
        missing="no such hold",
        limit=("limit of holds for writing", results[0][1]["claims"][0]["limit"]),
    )
