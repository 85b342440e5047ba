# SPDX-License-Identifier: MIT
"""`pgtable-cleanup features`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import click
from rich.console import Console
from rich.table import Table

from cleanup.lab import LabError, machine, packages
from cleanup.methods import Features
from cleanup.methods import features as find_features

# What the lab can't do without, each raising a LabError that says how to get it.
LAB_NEEDS: tuple[Callable[[], object], ...] = (machine.qemu_version, packages.debian_mirror)


@dataclass(frozen=True, slots=True)
class Facility:
    """Whether something works; None if that is only known once it is tried."""

    works: bool | None
    reasons: tuple[str, ...] = ()


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def features(as_json: bool) -> None:
    """Say what works on this host, and why the rest does not."""
    found = find_features()
    facilities = {"lab": _lab(), "kvm": _kvm()}
    if as_json:
        document = found.to_json() | {name: asdict(each) for name, each in facilities.items()}
        click.echo(json.dumps(document, indent=2))
    else:
        _show(found, facilities)


def _lab() -> Facility:
    reasons = []
    for need in LAB_NEEDS:
        try:
            need()
        except LabError as error:
            reasons.append(str(error))
    return Facility(not reasons, tuple(reasons))


def _kvm() -> Facility:
    if obstacle := machine.kvm_obstacle():
        return Facility(False, (obstacle,))
    return Facility(None, ("the lab tries it with each kernel: some hang under a nested KVM",))


def _show(found: Features, facilities: Mapping[str, Facility]) -> None:
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
    ways = Table("", "works", "what it is; why it does not work here", box=None)
    for name, method in found.methods.items():
        ways.add_row(name, _yes(method.works), _lines(method.does, method.reasons))
    for name, what in (
        ("lab", "boots Debian's kernels in QEMU, with the module"),
        ("kvm", "makes the lab as fast as this machine; without it, QEMU emulates"),
    ):
        facility = facilities[name]
        ways.add_row(name, _yes(facility.works), _lines(what, facility.reasons))
    console = Console(highlight=False, markup=False)
    console.print(facts)
    console.print()
    console.print(ways)


def _lines(what: str, reasons: tuple[str, ...]) -> str:
    return "\n".join((what, *(f"- {reason}" for reason in reasons)))


def _yes(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "maybe"}[value]
