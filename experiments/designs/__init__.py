# SPDX-License-Identifier: MIT
"""The experiment `designs`: the ways to be rid of empty page tables that were weighed in 2021."""

from experiments.suite.suite import Suite

SUITE = Suite(
    "designs",
    __name__,
    "ways to be rid of empty page tables, side by side: memory left, cost of a release "
    "and of a fault, longest hold of a lock",
)
