# SPDX-License-Identifier: MIT
"""The experiment `reclaim-cost`: what freeing tables costs, side by side in one guest."""

from experiments.suite.suite import Suite

SUITE = Suite(
    "reclaim-cost",
    __name__,
    "cost of freeing empty page tables by the module and by what a program can do without it: "
    "instructions, shootdowns, lock holds",
)
