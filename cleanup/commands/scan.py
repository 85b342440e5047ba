# SPDX-License-Identifier: MIT
"""`pgtable-cleanup scan`."""

from cleanup.commands._targets import target_command

scan = target_command(
    "scan", "Count the page tables of processes, and those of them that are empty.", frees=False
)
