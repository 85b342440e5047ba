# SPDX-License-Identifier: MIT
"""The experiment `allocators`: the tables they leave empty, what frees these, and what it costs.

`process` runs `program` by one of the `methods`, and gives it orders.
"""

from experiments.part import Group

GROUP = Group(
    "allocators",
    f"{__name__}.parts",
    "what allocators leave empty, by the preload library and by jemalloc's hooks: tables, "
    "CPU time, forks",
)
