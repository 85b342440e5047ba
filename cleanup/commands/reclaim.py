# SPDX-License-Identifier: MIT
"""`pgtable-cleanup reclaim`."""

from cleanup.commands._targets import TargetOptions, run, target_command


@target_command
def reclaim(options: TargetOptions) -> None:
    """Free the empty page tables of running processes; data and state are never touched."""
    run(options, frees=not options.dry_run)
