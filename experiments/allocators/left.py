# SPDX-License-Identifier: MIT
"""Page tables that a program has left after it freed nearly all that it had."""

from collections.abc import Sequence
from typing import Any

import cleanup
from experiments import oracle
from experiments.oracle import Census
from experiments.suite.part import Result, Row
from experiments.summary import size_text


def counted(begin: Census, peak: Census, end: Census) -> dict[str, int]:
    """In tables: `peak` and `empty` above what there was at the beginning, `tables` at the end."""
    return {
        "peak": peak.tables - begin.tables,
        "tables": end.tables,
        "empty": max(end.empty - begin.empty, 0),
    }


def found(pid: int, begin: Census, peak: Census) -> dict[str, Any]:
    """What is `counted` now, and then what is reclaimed."""
    end = oracle.observe_halted(pid)
    return {**counted(begin, peak, end), "reclaimed": _reclaimed(pid)}


def _reclaimed(pid: int) -> int | None:
    """Tables of all levels that `reclaim` frees of it now, None where there is no module."""
    if not cleanup.features().methods["module"].works:
        return None
    return cleanup.reclaim(pid).freed.total


def shown(run: dict[str, Any]) -> str:
    """What was `counted`, and reclaimed where it could be."""
    text = f"{run['empty']:,} empty of {run['tables']:,} tables"
    if run.get("reclaimed") is not None:
        text += f"; reclaim by pid freed {run['reclaimed']:,}"
    return text


def rows(result: Result) -> Sequence[Row]:
    """Of a result whose `runs` are, by what was freed and by way, as of `counted`."""
    return [
        ("heap", size_text(result["heap_bytes"])),
        *(
            (f"{name}, {way}", shown(run))
            for name, ways in result["runs"].items()
            for way, run in ways.items()
        ),
    ]
