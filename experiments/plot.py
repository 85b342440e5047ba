# SPDX-License-Identifier: MIT
"""Plots of an experiment, a panel for each kernel and granularity."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from experiments.document import Document, measured_of
from experiments.phases import GRANULARITIES, NO_RELEASE, PHASES
from experiments.summary import Spread, Summary, duration_text, size_text, summaries

# Okabe and Ito's colours, apart in grey too; the hatches tell them apart without any.
STYLES = {"none": ("#bbbbbb", "//"), "zap": ("#e69f00", ".."), "module": ("#0072b2", "")}
_GROUP_WIDTH = 0.84
_MIB = 1 << 20


def draw(documents: Sequence[Document]) -> dict[str, Figure]:
    """Draw sizes and times of one workload by phase, from a document a kernel."""
    return {
        "vmpte": _grid(documents, _sizes, "page tables of the process:\nVmPTE (MiB)"),
        "seconds": _grid(documents, _times, "time in the phase (s):\nmedian, least to most"),
    }


def _grid(
    documents: Sequence[Document],
    panel: Callable[[Axes, Sequence[Summary]], None],
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
            panel(axis, shown)
        line[0].set_ylabel(label)
    for axis in axes[-1]:
        axis.set_xlabel("phase")
    # Every method once, though not every kernel has all.
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


def _sizes(axis: Axes, shown: Sequence[Summary]) -> None:
    for summary, places, width in _places(shown, len(PHASES)):
        bars = axis.bar(
            places,
            [summary.vmpte_bytes[phase] / _MIB for phase in PHASES],
            width=width,
            **_style(summary),
        )
        _label(axis, bars, [size_text(summary.vmpte_bytes[phase]) for phase in PHASES])
    _name_groups(axis, PHASES)


def _times(axis: Axes, shown: Sequence[Summary]) -> None:
    phases = PHASES[1:]
    for summary, places, width in _places(shown, len(phases)):
        times = [summary.seconds[phase] for phase in phases]
        bars = axis.bar(
            places,
            [time.median for time in times],
            width=width,
            yerr=None if summary.repeats == 1 else _errors(times),
            capsize=3,
            error_kw={"linewidth": 1},
            **_style(summary),
        )
        _label(axis, bars, [duration_text(time.median) for time in times])
    _name_groups(axis, phases)


def _errors(times: Sequence[Spread]) -> tuple[list[float], list[float]]:
    """Return by how much the repeats lie below and above the median."""
    return (
        [time.median - time.least for time in times],
        [time.most - time.median for time in times],
    )


def _places(shown: Sequence[Summary], groups: int) -> Iterator[tuple[Summary, list[float], float]]:
    """Where each summary's bars stand in the groups, and how wide they are."""
    width = _GROUP_WIDTH / max(len(shown), 1)
    for index, summary in enumerate(shown):
        offset = (index - (len(shown) - 1) / 2) * width
        yield summary, [group + offset for group in range(groups)], width * 0.9


def _style(summary: Summary) -> dict[str, Any]:
    colour, hatch = STYLES[summary.method]
    return {
        "label": summary.method,
        "facecolor": colour,
        "hatch": hatch,
        "edgecolor": "black",
        "linewidth": 0.6,
    }


def _label(axis: Axes, bars: BarContainer, texts: Sequence[str]) -> None:
    axis.bar_label(bars, texts, padding=3, fontsize=8, rotation=90)


def _name_groups(axis: Axes, phases: Sequence[str]) -> None:
    axis.set_xticks(range(len(phases)), list(phases))
    axis.margins(y=0.45)  # room for the figures above the bars
