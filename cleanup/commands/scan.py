# SPDX-License-Identifier: MIT
"""`pgtable-cleanup scan`."""

from cleanup.commands._targets import TargetOptions, run, target_command


@target_command
def scan(options: TargetOptions) -> None:
    """Count the page tables of processes, and those of them that are empty."""
    run(options, frees=False)
