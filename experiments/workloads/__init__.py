# SPDX-License-Identifier: MIT
"""The workloads: each module makes and empties page tables as some kind of program does."""

from experiments.part import Group

GROUP = Group(
    "workloads",
    __name__,
    "page tables that programs leave empty, and what each method frees of them",
    plain=True,
)
