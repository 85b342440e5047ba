# SPDX-License-Identifier: MIT
"""The experiment `allocators`: the page tables that allocators leave empty, and ways to free them.

`process` runs `program` with one of the `methods`, and gives it orders.
"""

from experiments.part import Group

GROUP = Group(
    "allocators",
    f"{__name__}.parts",
    "what allocators leave empty, by the preload library and by jemalloc's hooks: tables, "
    "CPU time, forks",
)
