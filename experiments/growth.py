# SPDX-License-Identifier: MIT
"""Plots of how page tables, and the time to free them, grow with the mapping in a sweep."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.document import Document, measured_of
from experiments.plot import STYLES, save
from experiments.summary import Summary, size_text, summaries
from experiments.workload import Workload

HEADINGS = ("mapped", "page tables left", "after reclaim", "reclaim took", "for each table")
_LEAST_SIZES = 3
_PAGE = 4096
_MARKERS = {"none": "s", "zap": "^", "module": "o"}
_LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True, slots=True)
class Curve:
    """What was measured of one method on one kernel, by the number of bytes mapped."""

    kernel: str
    mapped_bytes: tuple[int, ...]
    summaries: tuple[Summary, ...]

    @property
    def method(self) -> str:
        """The method of freeing page tables."""
        return self.summaries[0].method

    @property
    def left_bytes(self) -> tuple[int, ...]:
        """The bytes of page tables left after cleaning, for each size."""
        return tuple(one.remaining_bytes for one in self.summaries)

    @property
    def left_on_axis(self) -> list[int]:
        """`left_bytes` for a logarithmic axis, on which 4096 bytes stand for none."""
        return [max(left, _PAGE) for left in self.left_bytes]

    @property
    def medians(self) -> list[float]:
        """The median of the seconds that freeing took, for each size."""
        return [one.seconds["cleaned"]["median"] for one in self.summaries]

    @property
    def label(self) -> str:
        """The curve's name in a legend."""
        return f"{self.method}, Linux {self.kernel}, {self.summaries[0].granularity} a call"


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope on log-log axes: 1 if y grows in proportion to x, 0 if y is constant."""
    return linear_regression([math.log(x) for x in xs], [math.log(y) for y in ys]).slope


def curves(documents: Sequence[Document]) -> dict[str, list[Curve]]:
    """Return the curves of each workload that was run at three sizes at least."""
    sized: dict[tuple[str, str, str, str], dict[int, Summary]] = {}
    for document in documents:
        part, measured = measured_of(document)
        if isinstance(part, Workload):
            for summary in summaries(measured["runs"]):
                place = part.name, document["kernel"], summary.method, summary.granularity
                sized.setdefault(place, {})[measured["parameters"]["size_bytes"]] = summary
    found: dict[str, list[Curve]] = {}
    for (workload, kernel, *_), by_size in sorted(sized.items()):
        if len(by_size) >= _LEAST_SIZES:
            sizes, measured_at = zip(*sorted(by_size.items()), strict=True)
            found.setdefault(workload, []).append(Curve(kernel, sizes, measured_at))
    return found


def rows(group: Sequence[Curve]) -> list[tuple[str, ...]]:
    """Return one kernel's table under HEADINGS: a row for each size, and then the slopes."""
    by_method = {curve.method: curve for curve in group}
    none, module = by_method["none"], by_method["module"]
    found: list[tuple[str, ...]] = []
    prices: list[float] = []
    for mapped, left, done in zip(
        none.mapped_bytes, none.left_bytes, module.summaries, strict=True
    ):
        took = done.seconds["cleaned"]
        prices.append(took["median"] / done.freed_tables)
        found.append(
            (
                size_text(mapped),
                size_text(left),
                size_text(done.remaining_bytes),
                f"{took['median']:.3g} s ({took['min']:.3g} to {took['max']:.3g})",
                f"{1e6 * prices[-1]:.3g} µs",
            )
        )
    growth = (none.left_on_axis, module.left_on_axis, module.medians, prices)
    slopes = (f"{slope(none.mapped_bytes, values):.2f}" for values in growth)
    return [*found, ("*slope, log-log*", *slopes)]


def draw_all(documents: Sequence[Document], out: Path) -> list[Path]:
    """Write a picture of each workload that has curves."""
    found = curves(documents)
    return save({f"growth-{name}": draw(name, group) for name, group in found.items()}, out)


def draw(workload: str, group: Sequence[Curve]) -> Figure:
    """Draw the page tables left, and the time of freeing them, over the bytes mapped."""
    figure = Figure(figsize=(11, 4.6 + 0.25 * len(group)), layout="constrained")
    left, time = figure.subplots(1, 2)
    kernels = sorted({curve.kernel for curve in group})
    for curve in group:
        line = _LINES[kernels.index(curve.kernel) % len(_LINES)]
        _plot(left, curve, [one / 1024 for one in curve.left_on_axis], line)
        # The method `none` does nothing, which takes no time that could be plotted.
        if curve.method != "none" and min(curve.medians) > 0:
            _plot(time, curve, curve.medians, line)
    left.set_ylabel("page tables left of the mapping (kB); 4 stands for none")
    time.set_ylabel("time of freeing them (s, median)")
    for axis in (left, time):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xlabel("mapped (GiB)")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(linewidth=0.5, alpha=0.5)
        if axis.lines:
            axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.16))
    figure.suptitle(f"{workload}: with the size of the mapping", fontweight="bold")
    return figure


def _plot(axis: Axes, curve: Curve, values: Sequence[float], line: str) -> None:
    axis.plot(
        [size / (1 << 30) for size in curve.mapped_bytes],
        values,
        line,
        marker=_MARKERS[curve.method],
        # The light grey of other plots is too faint for a line in print.
        color="#555555" if curve.method == "none" else STYLES[curve.method][0],
        label=f"{curve.label}: slope {slope(curve.mapped_bytes, values):.2f}",
    )
