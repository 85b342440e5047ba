# SPDX-License-Identifier: MIT
"""`pgtable-cleanup experiment`: measure what page tables cost and what each method gives back."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from cleanup.commands import _scale
from cleanup.commands._output import json_option, print_document
from cleanup.commands._stop import unwind_when_stopped
from cleanup.commands.sweep import sweep
from cleanup.errors import CleanupError
from cleanup.lab import DEFAULT
from experiments import document as documents
from experiments import provenance, registry, runner
from experiments.document import Document
from experiments.part import Part, Scale
from experiments.phases import TOUCHES


@click.group()
def experiment() -> None:
    """Measure what page tables cost, and what each method of freeing them gives back."""
    unwind_when_stopped()


experiment.add_command(sweep)


@experiment.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Name the experiments."""
    groups = {group: registry.parts_of(group) for group in registry.groups()}
    if as_json:
        described = [_described(part) for parts in groups.values() for part in parts.values()]
        print_document({"experiments": described})
        return
    width = max(len(name) for parts in groups.values() for name in parts)
    for group, parts in groups.items():
        click.echo(f"{group.name}: {group.description}")
        for name, part in parts.items():
            click.echo(f"  {name:{width}}  {part.description}")


def _described(part: Part) -> dict[str, Any]:
    shared = ("name", "description", "control")
    of_workloads = ("size_bytes", "touches", "granularities", "repeats")
    return {
        **{name: getattr(part, name) for name in shared},
        "machine": part.needs.machine(),
        **{name: getattr(part, name) for name in of_workloads if hasattr(part, name)},
    }


@experiment.command("run")
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Run every experiment.")
@click.option(
    "--quick", is_flag=True, help="Measure smaller layouts, once, and judge no claim: in seconds."
)
@_scale.kernel_option
@click.option("--host", is_flag=True, help="Run here, not in the lab.")
@_scale.method_option("all that work")
@_scale.granularity_option
@click.option("--touch", type=click.Choice(TOUCHES), help="Pages touched in each 2 MiB.")
@click.option("--size", "size_bytes", type=_scale.size, help="Map less, or more: 64g, 1t.")
@_scale.seed_option
@click.option("--repeat", "repeats", type=click.IntRange(min=1), help="Runs of each kind.")
@_scale.out_option("results")
@click.option(
    "--resume", is_flag=True, help="Leave out what --out has already, by this commit at this scale."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Guests at once: 1 by default, and with --quick as many as this machine has room for.",
)
@json_option
def run(
    names: tuple[str, ...],
    everything: bool,
    kernels: tuple[str, ...],
    host: bool,
    methods: tuple[str, ...],
    backends: tuple[str, ...],
    out: Path,
    resume: bool,
    jobs: int | None,
    as_json: bool,
    **options: Any,  # noqa: ANN401 -- fields of a Scale
) -> None:
    """Measure experiments in the lab's guests, or here with --host; draw plots and a report.

    A NAME is an experiment's, such as tebibyte or reclaim-cost/holds, or that of a group of them,
    such as reclaim-cost; `experiment list` shows all.
    """
    if host and kernels:
        raise click.UsageError("--host runs on the kernel that is there: leave out --kernel")
    if host and jobs:
        raise click.UsageError("--host runs one after the other: leave out --jobs")
    scale = Scale(methods=(*methods, *backends), progress=_say, **options)
    parts = _chosen(names, everything, scale)
    _check_writable(out)
    places = [None] if host else list(kernels or [DEFAULT])
    wanted = [(part, kernel) for kernel in places for part in parts]
    if resume:
        wanted = _unmeasured(wanted, scale, documents.read_all(out))
    measured: list[Document] = []
    for document in _measured(wanted, scale, jobs):
        measured.append(document)
        if document["measured"] is not None:
            documents.write(document, out / documents.file_name(document))
        for failure in document["failures"]:
            _say(f"{document['part']} on {document['kernel']} FAILED: {failure}")
    _report(out, measured)
    _print(measured, as_json)
    failures = [
        f"{one['part']} on {one['kernel']}: {why}" for one in measured for why in one["failures"]
    ]
    if failures:
        raise CleanupError("\n".join(failures))


def _chosen(names: Sequence[str], everything: bool, scale: Scale) -> list[Part]:
    if not names and not everything:
        raise click.UsageError("name an experiment, or give --all")
    try:
        parts = list(registry.all_parts().values()) if everything else registry.chosen(names)
        for part in parts:
            part.check(scale)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return parts


def _check_writable(out: Path) -> None:
    """Raise CleanupError if `out` can't be written to. Make no directory: Ctrl-C would leave it."""
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise CleanupError(f"{existing} can't be written to: choose another --out")


def _unmeasured(
    wanted: Sequence[tuple[Part, str | None]], scale: Scale, stored: Sequence[Document]
) -> list[tuple[Part, str | None]]:
    """Return the wanted parts and kernels that this commit has not measured at this scale yet."""
    commit = provenance.commit()
    done = {
        (one["part"], "host" if one["machine"] is None else ".".join(one["kernel"].split(".")[:2]))
        for one in stored
        if provenance.is_certain(commit) and one["commit"] == commit
        if Scale.from_json({**one["scale"], "seed": one["seed"]}) == scale
    }
    return [(part, kernel) for part, kernel in wanted if (part.name, kernel or "host") not in done]


def _measured(
    wanted: Sequence[tuple[Part, str | None]], scale: Scale, jobs: int | None
) -> Iterator[Document]:
    in_lab = [(part, kernel) for part, kernel in wanted if kernel is not None]
    if len(in_lab) < len(wanted):
        return runner.here([part for part, _ in wanted], scale)
    jobs = jobs or (runner.at_once() if scale.quick else 1)
    return runner.in_lab(in_lab, scale, jobs=jobs)


def _say(message: str) -> None:
    click.echo(message, err=True)


def _report(out: Path, measured: Sequence[Document]) -> None:
    """Write the report on all results in `out`, if this run has added any."""
    if any(one["measured"] is not None for one in measured):
        # matplotlib takes long to import.
        from experiments import report  # noqa: PLC0415

        for path in report.write_all(documents.read_all(out), out):
            _say(f"written: {path}")


def _print(measured: Sequence[Document], as_json: bool) -> None:
    if as_json:
        print_document({"experiments": list(measured)})
    else:
        from experiments import table  # noqa: PLC0415 -- rich takes long to import

        table.show(measured)
