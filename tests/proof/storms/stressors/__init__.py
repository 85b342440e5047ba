# SPDX-License-Identifier: MIT
"""What the kernel does to a process's memory while the module takes empty tables from it.

Each stressor runs in a process of its own. To add one, write a class with a `step`, on `Anonymous`
if it needs memory with known contents, and put it in STRESSORS.
"""

from proof.storms.stressors.base import Stressor, Unavailable
from proof.storms.stressors.files import FileCollapses, Neighbours, SharedFiles
from proof.storms.stressors.mappings import (
    Ends,
    Faults,
    Forks,
    Mremaps,
    OutOfMemory,
    Refills,
    Unmaps,
)
from proof.storms.stressors.pages import Ages, Collapses, Merges, Migrations, Pageouts
from proof.storms.stressors.readers import FastGups, Readers, Shadows
from proof.storms.stressors.userfault import Moves, WriteProtections

__all__ = ["IN_THE_WAY", "STRESSORS", "Stressor", "Unavailable"]

STRESSORS: tuple[type[Stressor], ...] = (
    Faults,
    Refills,
    Forks,
    Mremaps,
    Unmaps,
    Ends,
    OutOfMemory,
    Collapses,
    Pageouts,
    Migrations,
    Merges,
    Ages,
    FileCollapses,
    SharedFiles,
    Neighbours,
    WriteProtections,
    Moves,
    FastGups,
    Readers,
    Shadows,
)
# These bring about what a cleaner can meet between its scan and its locks.
IN_THE_WAY: tuple[type[Stressor], ...] = (Refills, Neighbours)
