# SPDX-License-Identifier: MIT
"""The workloads: page tables made and emptied as programs do it, one module each."""

from experiments.part import Group

GROUP = Group(
    "workloads",
    __name__,
    "page tables that programs leave empty, and what each method frees of them",
    plain=True,
)
