# SPDX-License-Identifier: MIT
"""The experiment `designs`: what was weighed in 2021 to be rid of empty page tables."""

from experiments.part import Group

GROUP = Group(
    "designs",
    f"{__name__}.parts",
    "methods to be rid of empty page tables, side by side: memory left, cost of a release "
    "and of a fault, longest hold of a lock",
)
