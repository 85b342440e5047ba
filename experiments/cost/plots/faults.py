# SPDX-License-Identifier: MIT
"""How many faults took longer than a time, while tables were freed and while none were."""

from collections.abc import Sequence
from itertools import accumulate

from matplotlib.figure import Figure

from experiments.cost.latencies import Histogram, edge
from experiments.cost.parts.faults import SHOWN
from experiments.suite.part import Result


def survival(histograms: Sequence[Histogram]) -> tuple[list[float], list[float]]:
    """Latencies in µs, and the share of all events that took as long or longer."""
    counts: dict[int, int] = {}
    for histogram in histograms:
        for bucket, count in enumerate(histogram["counts"], histogram["first"]):
            counts[bucket] = counts.get(bucket, 0) + count
    buckets = sorted(bucket for bucket, count in counts.items() if count)
    total = sum(counts.values())
    below = accumulate((counts[bucket] for bucket in buckets[:-1]), initial=0)
    return [edge(bucket) / 1000 for bucket in buckets], [1 - less / total for less in below]


def draw(results: Sequence[tuple[str, Result]]) -> Figure:
    """One survival curve a pass, all rounds of it together; a column a kernel."""
    figure = Figure(figsize=(5.5 * len(results), 4), layout="constrained")
    all_axes = figure.subplots(1, len(results), squeeze=False, sharex=True, sharey=True)[0]
    for axes, (kernel, result) in zip(all_axes, results, strict=True):
        for name, label in SHOWN.items():
            axes.step(
                *survival(
                    [each["passes"][name]["latencies"]["histogram"] for each in result["rounds"]]
                ),
                where="post",
                label=label,
            )
        axes.set(xscale="log", yscale="log", title=f"Linux {kernel}")
        axes.set_xlabel("µs, an emulator's" if result["emulated"] else "µs")
        axes.grid(visible=True, alpha=0.3)
    all_axes[0].set_ylabel("share of faults that took as long or longer")
    all_axes[0].legend(fontsize="small")
    return figure
