# SPDX-License-Identifier: MIT
"""Figures of methods that are run in turns, and their ratios to those of the first method."""

from collections.abc import Callable, Mapping, Sequence
from math import comb
from statistics import median
from typing import Any

from experiments.allocators.methods import ProgramMethod
from experiments.cost.turns import by_turns
from experiments.part import Claim, Row, Scale, at_most


def compared(
    scale: Scale,
    rounds: int,
    methods: Sequence[ProgramMethod],
    run: Callable[[ProgramMethod], float],
) -> dict[str, Any]:
    """Run the methods that work here in turns, for `rounds` unless the scale has another number.

    Return by name the `values` of each method and, for all but the first, the `ratio` to the first:
    the median over the rounds, and an interval that holds the true median with 95 % confidence.
    That takes six rounds; with fewer the interval is the whole range, and has less confidence.
    """
    by_name = {method.name: method for method in methods if method.works_here()}
    values = by_turns(
        by_name,
        scale.runs(rounds),
        lambda name, _number: run(by_name[name]),
        progress=scale.progress,
    )
    first, *others = values
    return {
        first: {"values": values[first]},
        **{
            name: {"values": values[name], "ratio": interval(values[name], values[first])}
            for name in others
        },
    }


def interval(values: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Return the median of the paired ratios, and its 95 % interval by order statistics."""
    ordered = sorted(value / other for value, other in zip(values, base, strict=True))
    out = _left_out(len(ordered))
    return {"median": median(ordered), "low": ordered[out], "high": ordered[-1 - out]}


def _left_out(number: int) -> int:
    """Return how many ordered values the 95 % interval of their median leaves out on each side.

    The true median lies beyond the interval on each side in one case of 40 at most.
    """
    out = 0
    while sum(comb(number, index) for index in range(out + 1)) / 2**number <= 1 / 40:
        out += 1
    return max(out - 1, 0)


def rows(measured: Mapping[str, Any], unit: str = "ns", what: str = "") -> list[Row]:
    """Return a table row for each method that was `compared`; `what` goes before its name."""
    return [(f"{what}{name}", _shown(figures, unit)) for name, figures in measured.items()]


def _shown(figures: Mapping[str, Any], unit: str) -> str:
    """Return the figures of one name: `124.9 ns, 1.012 (1.003 to 1.020) times`."""
    text = f"{median(figures['values']):,.1f} {unit}"
    if (ratio := figures.get("ratio")) is None:
        return text
    return f"{text}, {ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f}) times"


def claims(what: str, measured: Mapping[str, Any], limits: Mapping[str, float]) -> list[Claim]:
    """Claim that the median ratio of each name that was measured is within its limit."""
    return [
        at_most(f"times {what}, {name}", measured[name]["ratio"]["median"], limit)
        for name, limit in limits.items()
        if name in measured
    ]
