# SPDX-License-Identifier: MIT
"""The experiment `allocators`: page tables that they leave empty, what frees them, and the cost.

`process` runs `program` by one of the `methods`, and gives it orders.
"""

from experiments.part import Group

GROUP = Group(
    "allocators",
    f"{__name__}.parts",
    "what allocators leave empty, by the preload library and by jemalloc's hooks: tables, "
    "CPU time, forks",
)
