# SPDX-License-Identifier: MIT
"""Page tables that a program has left after it freed nearly all that it had."""

from collections.abc import Sequence
from typing import Any

import cleanup
from experiments import oracle
from experiments.oracle import Census
from experiments.part import Documents, Measured, Pictures, Row
from experiments.spread import spread
from experiments.summary import size_text


def counted(begin: Census, peak: Census, end: Census) -> dict[str, int]:
    """Count tables: `peak` and `empty` beyond those at the beginning, and `tables` at the end."""
    return {
        "peak": peak.tables - begin.tables,
        "tables": end.tables,
        "empty": max(end.empty - begin.empty, 0),
    }


def found(pid: int, begin: Census, peak: Census) -> dict[str, Any]:
    """Return what is `counted` now, and then what is reclaimed."""
    end = oracle.observe_halted(pid)
    return {**counted(begin, peak, end), "reclaimed": _reclaimed(pid)}


def _reclaimed(pid: int) -> int | None:
    """Return how many tables `reclaim` frees of it now, None without the module."""
    if not cleanup.features().methods["module"].works:
        return None
    return cleanup.reclaim(pid).freed.total


def shown(run: dict[str, Any]) -> str:
    """Return what was `counted` for people, and what was reclaimed if that was possible."""
    text = f"{run['empty']:,} empty of {run['tables']:,} tables"
    if run.get("reclaimed") is not None:
        text += f"; reclaim by pid freed {run['reclaimed']:,}"
    return text


def rows(measured: Measured) -> Sequence[Row]:
    """Return what was `counted`, by what was freed and by method."""
    return [
        ("heap", size_text(measured["heap_bytes"])),
        *(
            (f"{name}, {method}", shown(run))
            for name, methods in measured["runs"].items()
            for method, run in methods.items()
        ),
    ]


def draw(
    documents: Documents, names: Sequence[str], methods: Sequence[str], label: str
) -> Pictures:
    """Draw bars for each of `names` of the `runs`, and each method that one of them was run by."""
    from experiments.bars import bars_of  # noqa: PLC0415 -- a guest draws nothing

    def empty(measured: Measured, key: tuple[str, str]) -> dict[str, Any] | None:
        name, method = key
        run = measured["runs"].get(name, {}).get(method)
        return run and spread([run["empty"]])

    groups = {(name, method): f"{name}, {method}" for name in names for method in methods}
    found = {
        key: shown
        for key, shown in groups.items()
        if any(empty(one["measured"] or {}, key) for one in documents)
    }
    return bars_of(documents, found, empty, label=label, missing="not run there")
