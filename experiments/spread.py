# SPDX-License-Identifier: MIT
"""Figures measured several times: the order of the runs, and how figures are kept and shown."""

from collections.abc import Sequence
from statistics import median
from typing import Any


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return the median, the least and the most of values, and all values in their order."""
    return {
        "median": median(values),
        "min": min(values),
        "max": max(values),
        "runs": list(values),
    }


def text(figures: dict[str, Any], unit: str) -> str:
    """Return for people what `spread` stored: `1,234 instructions (1,230 to 1,240)`."""
    shown = f"{figures['median']:,.0f} {unit}"
    if figures["min"] == figures["max"]:
        return shown
    return f"{shown} ({figures['min']:,.0f} to {figures['max']:,.0f})"


def rotated(names: Sequence[str], by: int) -> list[str]:
    """Return the order of names for run `by`, so that each comes first in turn."""
    at = by % len(names)
    return [*names[at:], *names[:at]]
