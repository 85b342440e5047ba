# SPDX-License-Identifier: MIT
"""Growth of page tables, and of the time to free them, with the mapping: a sweep, log-log."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.document import Document, measured_of
from experiments.plot import STYLES
from experiments.summary import Spread, Summary, size_text, summaries
from experiments.workload import Workload

HEADINGS = ("mapped", "page tables left", "after reclaim", "reclaim took", "for each table")
_LEAST_SIZES = 3
_PAGE = 4096
_MARKERS = {"none": "s", "zap": "^", "module": "o"}
_LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True, slots=True)
class Curve:
    """One method on one kernel: bytes mapped, of page tables left, tables freed, and seconds."""

    kernel: str
    method: str
    granularity: str
    mapped_bytes: tuple[int, ...]
    left_bytes: tuple[int, ...]
    freed: tuple[int, ...]
    seconds: tuple[Spread, ...]

    @property
    def left_on_axis(self) -> list[int]:
        """Nothing has no place on a logarithmic axis: a page stands for it."""
        return [max(left, _PAGE) for left in self.left_bytes]

    @property
    def medians(self) -> list[float]:
        """The median of the seconds that freeing took, for each size."""
        return [each.median for each in self.seconds]

    @property
    def label(self) -> str:
        """The curve's name in a legend."""
        return f"{self.method}, Linux {self.kernel}, {self.granularity} a call"


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope of the line through the logarithms: 1 if y grows as x does, 0 if not."""
    return linear_regression([math.log(x) for x in xs], [math.log(y) for y in ys]).slope


def curves(documents: Sequence[Document]) -> dict[str, list[Curve]]:
    """Return the curves of each workload that was run at three sizes at least."""
    found: dict[str, list[Curve]] = {}
    sized: dict[tuple[str, str, str, str], dict[int, Summary]] = {}
    for document in documents:
        part, measured = measured_of(document)
        if not isinstance(part, Workload):
            continue
        for summary in summaries(measured["runs"]):
            place = part.name, document["kernel"], summary.method, summary.granularity
            sized.setdefault(place, {})[measured["parameters"]["size_bytes"]] = summary
    for (workload, *which), by_size in sorted(sized.items()):
        if len(by_size) < _LEAST_SIZES:
            continue
        kernel, method, granularity = which
        sizes = sorted(by_size)
        found.setdefault(workload, []).append(
            Curve(
                kernel,
                method,
                granularity,
                tuple(sizes),
                tuple(by_size[size].remaining_bytes for size in sizes),
                tuple(by_size[size].freed_tables for size in sizes),
                tuple(by_size[size].seconds["cleaned"] for size in sizes),
            )
        )
    return found


def rows(group: Sequence[Curve]) -> list[tuple[str, ...]]:
    """Return the lines of one kernel under HEADINGS, by size, and then the slopes."""
    by_method = {curve.method: curve for curve in group}
    none, module = by_method["none"], by_method["module"]
    sizes = zip(
        none.mapped_bytes,
        none.left_bytes,
        module.left_bytes,
        module.freed,
        module.seconds,
        strict=True,
    )
    found = [
        (
            size_text(mapped),
            size_text(left),
            size_text(after),
            f"{took.median:.3g} s ({took.least:.3g} to {took.most:.3g})",
            f"{1e6 * took.median / freed:.3g} µs",
        )
        for mapped, left, after, freed, took in sizes
    ]
    prices = [took / freed for took, freed in zip(module.medians, module.freed, strict=True)]
    growth = (none.left_on_axis, module.left_on_axis, module.medians, prices)
    slopes = (f"{slope(none.mapped_bytes, values):.2f}" for values in growth)
    return [*found, ("*slope, log-log*", *slopes)]


def draw_all(documents: Sequence[Document], out: Path) -> list[Path]:
    """A PNG file in `out` for each workload that has curves."""
    drawn = []
    for workload, group in curves(documents).items():
        path = out / f"growth-{workload}.png"
        draw(workload, group).savefig(path, dpi=150)
        drawn.append(path)
    return drawn


def draw(workload: str, group: Sequence[Curve]) -> Figure:
    """Page tables left and the time of freeing them, over bytes mapped."""
    figure = Figure(figsize=(11, 4.6 + 0.25 * len(group)), layout="constrained")
    left, time = figure.subplots(1, 2)
    kernels = sorted({curve.kernel for curve in group})
    for curve in group:
        line = _LINES[kernels.index(curve.kernel) % len(_LINES)]
        _plot(left, curve, [one / 1024 for one in curve.left_on_axis], line)
        # What does nothing takes no time.
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
        # Grey on white is not seen in print.
        color="#555555" if curve.method == "none" else STYLES[curve.method][0],
        label=f"{curve.label}: slope {slope(curve.mapped_bytes, values):.2f}",
    )
