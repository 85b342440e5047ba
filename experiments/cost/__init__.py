# SPDX-License-Identifier: MIT
"""The experiment `reclaim-cost`: the cost of several methods of freeing tables, in one guest."""

from experiments.part import Group

GROUP = Group(
    "reclaim-cost",
    f"{__name__}.parts",
    "cost of freeing empty page tables by the module and by what a program can do without it: "
    "instructions, shootdowns, lock holds",
)
