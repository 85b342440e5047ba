# SPDX-License-Identifier: MIT
"""Plots of a workload's sizes and times, a panel for each kernel and granularity."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.document import Document, measured_of
from experiments.phases import GRANULARITIES, NO_RELEASE, PHASES
from experiments.summary import Summary, duration_text, size_text, summaries

# Okabe and Ito's colours, which differ in grey too; the hatches differ even without colour.
STYLES = {"none": ("#bbbbbb", "//"), "zap": ("#e69f00", ".."), "module": ("#0072b2", "")}
_GROUP_WIDTH = 0.84
_MIB = 1 << 20


Shown = tuple[float, float, float, str]
"""A bar's value, how far its repeats lie below and above it, and the text over the bar."""


def save(figures: Mapping[str, Figure], out: Path) -> list[Path]:
    """Write a PNG file in `out` for each figure, by its name; return their paths."""
    paths = [out / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        figure.savefig(path, dpi=150)
    return paths


def draw(documents: Sequence[Document]) -> dict[str, Figure]:
    """Draw the sizes and times of one workload by phase; each document is of one kernel."""
    sizes = "page tables of the process:\nVmPTE (MiB)"
    times = "time in the phase (s):\nmedian, least to most"
    return {
        "vmpte": _grid(documents, PHASES, _size, sizes),
        "seconds": _grid(documents, PHASES[1:], _time, times),
    }


def _size(summary: Summary, phase: str) -> Shown:
    size = summary.vmpte_bytes[phase]
    return size / _MIB, 0, 0, size_text(size)


def _time(summary: Summary, phase: str) -> Shown:
    took = summary.seconds[phase]
    median: float = took["median"]
    return median, median - took["min"], took["max"] - median, duration_text(median)


def _grid(
    documents: Sequence[Document],
    phases: Sequence[str],
    figures: Callable[[Summary, str], Shown],
    label: str,
) -> Figure:
    rows = [(one, summaries(measured_of(one)[1]["runs"])) for one in documents]
    present = {summary.granularity for _, row in rows for summary in row}
    granularities = [name for name in (NO_RELEASE, *GRANULARITIES) if name in present]
    figure = Figure(
        figsize=(0.8 + 3.8 * len(granularities), 1.2 + 2.9 * len(rows)), layout="constrained"
    )
    axes = figure.subplots(len(rows), len(granularities), sharey=True, squeeze=False)
    for (document, row), line in zip(rows, axes, strict=True):
        for granularity, axis in zip(granularities, line, strict=True):
            shown = [summary for summary in row if summary.granularity == granularity]
            axis.set_title(
                f"Linux {document['kernel']} ({document['accelerator']})"
                + (f",\nreleased {granularity} a call" if granularity != NO_RELEASE else ""),
                fontsize=10,
            )
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(axis="y", linewidth=0.5, alpha=0.5)
            axis.set_axisbelow(True)
            _panel(axis, shown, phases, figures)
        line[0].set_ylabel(label)
    for axis in axes[-1]:
        axis.set_xlabel("phase")
    # The legend has every method once, though not every kernel has all of them.
    handles = {
        text: handle
        for axis in figure.axes
        for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    methods = [name for name in STYLES if name in handles]
    figure.legend(
        [handles[name] for name in methods],
        methods,
        loc="outside lower center",
        ncols=len(methods),
        title="method",
    )
    part, measured = measured_of(documents[0])
    size = size_text(measured["parameters"]["size_bytes"])
    figure.suptitle(f"{part.name}: {size} mapped", fontweight="bold")
    return figure


def _panel(
    axis: Axes,
    shown: Sequence[Summary],
    phases: Sequence[str],
    figures: Callable[[Summary, str], Shown],
) -> None:
    """Draw a group of bars for each phase, a bar for each method."""
    width = _GROUP_WIDTH / max(len(shown), 1)
    for index, summary in enumerate(shown):
        offset = (index - (len(shown) - 1) / 2) * width
        values, below, above, texts = zip(*(figures(summary, one) for one in phases), strict=True)
        colour, hatch = STYLES[summary.method]
        bars = axis.bar(
            [group + offset for group in range(len(phases))],
            values,
            width=width * 0.9,
            yerr=(below, above) if any(below + above) else None,
            capsize=3,
            error_kw={"linewidth": 1},
            label=summary.method,
            facecolor=colour,
            hatch=hatch,
            edgecolor="black",
            linewidth=0.6,
        )
        axis.bar_label(bars, texts, padding=3, fontsize=8, rotation=90)
    axis.set_xticks(range(len(phases)), list(phases))
    axis.margins(y=0.45)  # this leaves room for the figures above the bars
