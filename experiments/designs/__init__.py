# SPDX-License-Identifier: MIT
"""The experiment `designs`: ways to get rid of empty page tables, as discussed in 2021."""

from experiments.part import Group

GROUP = Group(
    "designs",
    f"{__name__}.parts",
    "methods to be rid of empty page tables, side by side: memory left, cost of a release "
    "and of a fault, longest hold of a lock",
)
