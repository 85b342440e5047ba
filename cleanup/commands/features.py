# SPDX-License-Identifier: MIT
"""`pgtable-cleanup features`: says what works on this host, and why the rest does not."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import click
from rich.console import Console
from rich.table import Table

from cleanup.commands._output import json_option, print_document, quiet_option
from cleanup.lab import LabError, machine, packages
from cleanup.methods import Features
from cleanup.methods import features as find_features
from cleanup.units import format_duration

# The version of the JSON document. 2 renamed `backends` to `methods`.
SCHEMA = 2
# Functions that look for what the lab needs. Each raises a LabError that says how to get it.
LAB_NEEDS: tuple[Callable[[], object], ...] = (machine.qemu_version, packages.debian_mirror)


@dataclass(frozen=True, slots=True)
class Facility:
    """Whether something works on this host (None: only a trial can tell), and why it may not."""

    works: bool | None
    reasons: tuple[str, ...] = ()


@click.command()
@quiet_option
@json_option
def features(as_json: bool, quiet: bool) -> None:  # noqa: ARG001 -- it has no notes to leave out
    """Say what works on this host, and why the rest does not."""
    found = find_features()
    facilities = {"lab": _lab(), "kvm": _kvm()}
    if as_json:
        document = found.to_json() | {name: asdict(each) for name, each in facilities.items()}
        print_document({"schema": SCHEMA, **document})
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
        facts.add_row("most tables for each TLB flush", str(module.batch))
        facts.add_row("longest lock hold, by default", format_duration(module.default_max_hold_ns))
    methods = Table(
        "method", "works", "what it does; what uses it; why it does not work here", box=None
    )
    for name, method in found.methods.items():
        what = f"{method.does}\nused by: {', '.join(method.used_by)}"
        methods.add_row(name, _yes(method.works), _lines(what, method.reasons))
    for name, what in (
        ("lab", "boots Debian's kernels in QEMU, with the module"),
        ("kvm", "makes the lab as fast as this machine; without it, QEMU emulates"),
    ):
        facility = facilities[name]
        methods.add_row(name, _yes(facility.works), _lines(what, facility.reasons))
    console = Console(highlight=False, markup=False)
    console.print(facts)
    console.print()
    console.print(methods)


def _lines(what: str, reasons: tuple[str, ...]) -> str:
    return "\n".join((what, *(f"- {reason}" for reason in reasons)))


def _yes(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "maybe"}[value]
