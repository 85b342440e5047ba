# SPDX-License-Identifier: MIT
"""`pgtable-cleanup features`."""

import json

import click
from rich.console import Console
from rich.table import Table

from cleanup.backends import Features
from cleanup.backends import features as find_features


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def features(as_json: bool) -> None:
    """Say what works on this host, and why the rest does not."""
    found = find_features()
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _show(found)


def _show(found: Features) -> None:
    facts = Table.grid(padding=(0, 2))
    facts.add_row("kernel", f"{found.kernel} ({found.machine})")
    facts.add_row("proved for the module", _yes(found.proved_kernel))
    facts.add_row("paging levels", str(found.paging_levels or "unknown"))
    facts.add_row("frees tables by itself (PT_RECLAIM)", _yes(found.pt_reclaim))
    facts.add_row("answers MADV_CLEANUP_PGTABLE", _yes(found.madvise))
    if found.module is not None:
        module = found.module
        facts.add_row("module's ABI", str(module.abi_version))
        facts.add_row("module's levels", ", ".join(module.levels))
        facts.add_row("module loaded with allow_unproved", _yes(not module.proved_kernel))
        facts.add_row("tables a flush", str(module.batch))
        facts.add_row("lock hold, default bound", f"{module.default_max_hold_ns} ns")
    backends = Table("backend", "works", "what it does; why it does not work here", box=None)
    for name, backend in found.backends.items():
        lines = (backend.does, *(f"- {reason}" for reason in backend.reasons))
        backends.add_row(name, _yes(backend.works), "\n".join(lines))
    console = Console(highlight=False, markup=False)
    console.print(facts)
    console.print()
    console.print(backends)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
