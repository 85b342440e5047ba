# SPDX-License-Identifier: MIT
"""The experiment `allocators`: what they leave empty, what frees it, and what that costs them.

`program` is run by one of the `methods`, in a process that `process` tells what to do.
"""

from experiments.part import Group

GROUP = Group(
    "allocators",
    f"{__name__}.parts",
    "what allocators leave empty, by the preload library and by jemalloc's hooks: tables, "
    "CPU time, forks",
)
