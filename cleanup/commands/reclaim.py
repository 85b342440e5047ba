# SPDX-License-Identifier: MIT
"""`pgtable-cleanup reclaim`."""

from cleanup.commands._targets import target_command

reclaim = target_command(
    "reclaim",
    "Free the empty page tables of running processes; data and state are never touched.",
    frees=True,
)
