# SPDX-License-Identifier: MIT
"""Bars of repeated figures: a group for each thing measured, a colour for each kernel."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.document import Document

# Okabe and Ito's colours, apart in grey too; the hatches tell them apart without any.
_STYLES = (("#0072b2", ""), ("#e69f00", "//"), ("#009e73", ".."), ("#cc79a7", "xx"))
_GROUP_HEIGHT = 0.84
_ROOM_FOR_FIGURES = 0.22
_OVER_LINES = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}

Key = TypeVar("Key")
Group = tuple[str, Sequence[dict[str, Any] | None]]
"""A label, and what `spread` stored for each kernel; None where one has no such figure."""


def bars(
    kernels: Sequence[str],
    groups: Sequence[Group],
    *,
    label: str,
    missing: str = "",
    limit: tuple[str, float] | None = None,
) -> Figure:
    """Medians from zero, whiskers from least to most; a line at a `limit` that has a name.

    `label` names the figure and its unit, `missing` says why one is not there.
    """
    height = _GROUP_HEIGHT / len(kernels)
    figure = Figure(
        figsize=(9, 1.4 + len(groups) * (0.25 + 0.2 * len(kernels))), layout="constrained"
    )
    axis = figure.subplots()
    for index, kernel in enumerate(kernels):
        offset = (index - (len(kernels) - 1) / 2) * height
        shown = [
            (place, one)
            for place, (_, figures) in enumerate(groups)
            if (one := figures[index]) is not None
        ]
        medians = [one["median"] for _, one in shown]
        colour, hatch = _STYLES[index % len(_STYLES)]
        drawn = axis.barh(
            [place + offset for place, _ in shown],
            medians,
            height=height * 0.9,
            xerr=(
                [one["median"] - one["min"] for _, one in shown],
                [one["max"] - one["median"] for _, one in shown],
            ),
            capsize=2,
            error_kw={"linewidth": 1},
            label=f"Linux {kernel}",
            facecolor=colour,
            hatch=hatch,
            edgecolor="black",
            linewidth=0.6,
        )
        texts = [f"{value:,.0f}" for value in medians]
        axis.bar_label(drawn, texts, padding=4, fontsize=8, bbox=_OVER_LINES)
        for place, (_, figures) in enumerate(groups):
            if figures[index] is None:
                axis.annotate(
                    missing,
                    (0, place + offset),
                    xytext=(4, 0),
                    textcoords="offset points",
                    fontsize=8,
                    verticalalignment="center",
                )
    _finish(axis, [name for name, _ in groups], label, limit)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _finish(axis: Axes, names: Sequence[str], label: str, limit: tuple[str, float] | None) -> None:
    """Name what the axes show, and draw the limit."""
    if limit is not None:
        name, value = limit
        axis.axvline(
            value, color="black", linestyle="--", linewidth=1, label=f"{name}: {value:,.0f}"
        )
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.margins(x=_ROOM_FOR_FIGURES)
    axis.set_xlim(left=0)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    # Seven-digit figures side by side would touch.
    axis.locator_params(axis="x", nbins=6)
    axis.set_xlabel(label)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", linewidth=0.5, alpha=0.5)
    axis.set_axisbelow(True)


def bars_of(
    documents: Sequence[Document],
    groups: Mapping[Key, str],
    figures: Callable[[Any, Key], dict[str, Any] | None],
    **options: Any,  # noqa: ANN401 -- those of `bars`
) -> dict[str, Figure]:
    """Draw bars as a part's one picture; `figures` finds those of a group in what was measured."""
    return {
        "": bars(
            [one["kernel"] for one in documents],
            [
                (label, [figures(one["measured"], key) for one in documents])
                for key, label in groups.items()
            ],
            **options,
        )
    }
