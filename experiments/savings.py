# SPDX-License-Identifier: MIT
"""The savings: the tables that each workload leaves empty, and those that are freed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from experiments.document import Document, measured_of
from experiments.part import Saving
from experiments.plot import STYLES, save
from experiments.summary import size_text

HEADINGS = ("workload", "page tables", "left empty", "freed by reclaim", "")
_TABLE = 4096
_MIB = 1 << 20
# Up to this many empty tables are chance, no saving: an interpreter's own heap has more.
NOISE_TABLES = 64


@dataclass(frozen=True, slots=True)
class OnKernel:
    """The savings on one kernel, the largest first and the controls last."""

    kernel: str
    pt_reclaim: bool
    savings: Sequence[Saving]


def on_kernels(documents: Sequence[Document]) -> list[OnKernel]:
    """Return the savings on each kernel, in the order of the documents."""
    found: dict[str, tuple[bool, list[Saving]]] = {}
    for document in documents:
        _, savings = found.setdefault(document["kernel"], (document["kernel_pt_reclaim"], []))
        part, measured = measured_of(document)
        savings += part.savings(measured)
    return [
        OnKernel(
            kernel, pt_reclaim, sorted(savings, key=lambda one: (one.control, -one.empty, one.name))
        )
        for kernel, (pt_reclaim, savings) in found.items()
        if savings
    ]


def row(saving: Saving) -> tuple[str, str, str, str, str]:
    """Return a row of the table whose headings are HEADINGS."""
    freed = "" if saving.freed is None else size_text(saving.freed * _TABLE)
    if saving.freed is None:
        verdict = "not measured: no module"
    elif not saving.empty:
        verdict = "nothing to free"
    elif saving.freed >= saving.empty:
        # `empty` leaves out tables that were empty before the heap grew, but `freed` has them.
        verdict = "all of it"
    else:
        verdict = f"{saving.freed / saving.empty:.1%} of it"
    if saving.control:
        verdict = f"control: {verdict}"
    return (
        saving.name,
        size_text(saving.tables * _TABLE),
        size_text(saving.empty * _TABLE),
        freed,
        verdict,
    )


def verdict(one: OnKernel) -> str:
    """Return in two sentences what was saved on a kernel."""
    controls = [saving for saving in one.savings if saving.control]
    gaining = [
        saving
        for saving in one.savings
        if not saving.control and saving.empty > NOISE_TABLES and saving.freed is not None
    ]
    text = "No workload left tables empty that reclaim could free."
    if gaining:
        least = min((saving.freed or 0) / saving.empty for saving in gaining)
        share = "all" if least >= 1 else f"{least:.1%} or more"
        text = (
            f"In {len(gaining)} of {len(one.savings) - len(controls)} cases more than "
            f"{size_text(_TABLE * NOISE_TABLES)} of tables were left empty, up to "
            f"{size_text(_TABLE * max(saving.empty for saving in gaining))}; "
            f"reclaim freed {share} of them."
        )
    if controls:
        most = max(saving.empty for saving in controls)
        text += (
            f" In the {len(controls)} controls, where nothing is to be gained, "
            f"{size_text(_TABLE * most)} at most."
        )
    return text


def draw_all(kernels: Sequence[OnKernel], out: Path) -> list[Path]:
    """Write a picture for each kernel, with its whole release in the name; return the paths."""
    return save({f"savings-{one.kernel}": draw(one) for one in kernels}, out)


def draw(one: OnKernel) -> Figure:
    """Draw the tables left empty and those freed, in MiB, on a logarithmic axis."""
    count = len(one.savings)
    figure = Figure(figsize=(9, 1.4 + 0.26 * count), layout="constrained")
    axis = figure.subplots()
    # A dot fills the ring where all is freed. Bars begin at zero, which a logarithmic axis lacks.
    for kind, label, size, filled, values in (
        ("none", "left empty by the kernel", 9, False, [each.empty for each in one.savings]),
        ("module", "freed by reclaim", 5, True, [each.freed or 0 for each in one.savings]),
    ):
        shown = [(place, value) for place, value in enumerate(values) if value]
        colour, _ = STYLES[kind]
        axis.plot(
            [value * _TABLE / _MIB for _, value in shown],
            [place for place, _ in shown],
            linestyle="none",
            marker="o",
            markersize=size,
            markerfacecolor=colour if filled else "none",
            markeredgecolor=colour if filled else "black",
            label=label,
        )
    for place, saving in enumerate(one.savings):
        if not saving.empty:
            axis.annotate(
                "none",
                (_TABLE / _MIB / 2, place),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=8,
                va="center",
            )
    axis.set_xscale("log")
    axis.set_xlim(left=_TABLE / _MIB / 2)
    axis.set_yticks(range(count), [_label(saving) for saving in one.savings], fontsize=8)
    axis.set_ylim(count - 0.5, -0.5)
    axis.set_xlabel("page tables (MiB, logarithmic)")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(linewidth=0.5, alpha=0.5)
    axis.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2)
    figure.suptitle(f"Empty page tables on Linux {one.kernel}", fontweight="bold")
    return figure


def _label(saving: Saving) -> str:
    return f"{saving.name} (control)" if saving.control else saving.name
