# SPDX-License-Identifier: MIT
"""Repeats of one figure: in which order they are run, how they are stored, and shown to people."""

from collections.abc import Sequence
from statistics import median
from typing import Any


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and most, and every value in the order measured."""
    return {
        "median": median(values),
        "min": min(values),
        "max": max(values),
        "runs": list(values),
    }


def text(figures: dict[str, Any], unit: str) -> str:
    """Return what `spread` stored for people: `1,234 instructions (1,230 to 1,240)`."""
    shown = f"{figures['median']:,.0f} {unit}"
    if figures["min"] == figures["max"]:
        return shown
    return f"{shown} ({figures['min']:,.0f} to {figures['max']:,.0f})"


def rotated(names: Sequence[str], by: int) -> list[str]:
    """The order of a run: each of them comes first in turn."""
    at = by % len(names)
    return [*names[at:], *names[:at]]
