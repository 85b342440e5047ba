# SPDX-License-Identifier: MIT
"""A plot of how many faults took longer than a time, with tables being freed and without."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

from matplotlib.figure import Figure

from experiments.cost.latencies import edge
from experiments.document import Document, measured_of
from experiments.part import Measured


def survival(histograms: Sequence[Measured]) -> tuple[list[float], list[float]]:
    """Return latencies in µs, and for each the share of all events that took as long or longer."""
    counts: dict[int, int] = {}
    for histogram in histograms:
        for bucket, count in enumerate(histogram["counts"], histogram["first"]):
            counts[bucket] = counts.get(bucket, 0) + count
    buckets = sorted(bucket for bucket, count in counts.items() if count)
    total = sum(counts.values())
    below = accumulate((counts[bucket] for bucket in buckets[:-1]), initial=0)
    return [edge(bucket) / 1000 for bucket in buckets], [1 - less / total for less in below]


def draw(documents: Sequence[Document], labels: Mapping[str, str]) -> Figure:
    """Draw a column for each kernel, with a survival curve of each pass over all its rounds."""
    figure = Figure(figsize=(5.5 * len(documents), 4), layout="constrained")
    all_axes = figure.subplots(1, len(documents), squeeze=False, sharex=True, sharey=True)[0]
    for axes, document in zip(all_axes, documents, strict=True):
        _, measured = measured_of(document)
        for name, label in labels.items():
            rounds = [each["passes"][name]["latencies"] for each in measured["rounds"]]
            axes.step(*survival([one["histogram"] for one in rounds]), where="post", label=label)
        axes.set(xscale="log", yscale="log", title=f"Linux {document['kernel']}")
        axes.set_xlabel("µs, an emulator's" if measured["emulated"] else "µs")
        axes.grid(visible=True, alpha=0.3)
    all_axes[0].set_ylabel("share of faults that took as long or longer")
    all_axes[0].legend(fontsize="small")
    return figure
