# SPDX-License-Identifier: MIT
"""Bar charts of repeated figures: a group for each thing measured, a colour for each kernel."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.document import Document

# Okabe and Ito's colours, which differ in grey too; the hatches differ even without colour.
_STYLES = (("#0072b2", ""), ("#e69f00", "//"), ("#009e73", ".."), ("#cc79a7", "xx"))
_GROUP_HEIGHT = 0.84
_ROOM_FOR_FIGURES = 0.22
_OVER_LINES = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}

Key = TypeVar("Key")


def bars_of(
    documents: Sequence[Document],
    groups: Mapping[Key, str],
    figures: Callable[[Any, Key], dict[str, Any] | None],
    *,
    label: str,
    missing: str = "",
    limit: tuple[str, float] | None = None,
) -> dict[str, Figure]:
    """Draw a part's only picture: bars, a colour for each document, which is of one kernel.

    A bar is a median, with whiskers from least to most. `groups` maps keys to labels. `figures`
    gets what was measured and a key, and returns what `spread` stored, or None: then the text
    `missing` replaces the bar. `label` names the axis. `limit` names a value to draw a line at.
    """
    height = _GROUP_HEIGHT / len(documents)
    figure = Figure(
        figsize=(9, 1.4 + len(groups) * (0.25 + 0.2 * len(documents))), layout="constrained"
    )
    axis = figure.subplots()
    for index, document in enumerate(documents):
        offset = (index - (len(documents) - 1) / 2) * height
        found = [figures(document["measured"], key) for key in groups]
        shown = [(place, one) for place, one in enumerate(found) if one is not None]
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
            label=f"Linux {document['kernel']}",
            facecolor=colour,
            hatch=hatch,
            edgecolor="black",
            linewidth=0.6,
        )
        texts = [f"{value:,.0f}" for value in medians]
        axis.bar_label(drawn, texts, padding=4, fontsize=8, bbox=_OVER_LINES)
        for place, one in enumerate(found):
            if one is None:
                axis.annotate(
                    missing,
                    (0, place + offset),
                    xytext=(4, 0),
                    textcoords="offset points",
                    fontsize=8,
                    verticalalignment="center",
                )
    _finish(axis, list(groups.values()), label, limit)
    figure.legend(loc="outside lower center", ncols=2)
    return {"": figure}


def _finish(axis: Axes, names: Sequence[str], label: str, limit: tuple[str, float] | None) -> None:
    """Label the axes, and draw the limit."""
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
    # With more ticks, seven-digit figures would touch each other.
    axis.locator_params(axis="x", nbins=6)
    axis.set_xlabel(label)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", linewidth=0.5, alpha=0.5)
    axis.set_axisbelow(True)
