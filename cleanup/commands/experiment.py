# SPDX-License-Identifier: MIT
"""`pgtable-cleanup experiment`: measure what page tables cost and what each backend gives back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from cleanup.errors import CleanupError
from cleanup.experiments import measure
from cleanup.experiments.document import Document, read_all, write
from cleanup.experiments.provenance import commit
from cleanup.experiments.workload import GRANULARITIES, TOUCHES, Parameters, Workload
from cleanup.experiments.workloads import registry

DEFAULT_KERNEL = "6.12"
_IN_LAB = "PGTABLE_CLEANUP_LAB" in os.environ
# What a guest without KVM takes at most, for each page touched and around the runs, in seconds.
_SECONDS_A_PAGE = 2e-4
_SECONDS_MORE = 600


class Size(click.ParamType[int]):
    """A size such as 64g, a whole number of 2 MiB."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The size in bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+)([mgt])(?:ib)?", str(value).lower())
        size = int(match[1]) << {"m": 20, "g": 30, "t": 40}[match[2]] if match else 0
        if size <= 0 or size % (2 << 20):
            self.fail(f"{value!r} is no size: give a multiple of 2m, such as 64g", param, ctx)
        return size


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of `run`, parsed; None and () are a workload's own defaults."""

    backends: tuple[str, ...]
    granularities: tuple[str, ...]
    touch: str | None
    size_bytes: int | None
    seed: int
    repeats: int | None
    quick: bool

    def parameters(self, workload: Workload) -> list[Parameters]:
        """Those of each run; UsageError where the workload has no such variant."""
        touch = self.touch or workload.touches[0]
        if touch not in workload.touches:
            raise click.UsageError(f"{workload.name} has no --touch {touch}")
        granularities = self.granularities or workload.granularities[:1]
        for granularity in granularities:
            if granularity not in workload.granularities:
                raise click.UsageError(f"{workload.name} has no --granularity {granularity}")
        return [
            Parameters(self.size_bytes or workload.size_bytes, granularity, touch, self.seed)
            for granularity in granularities
        ]

    def repeats_of(self, workload: Workload) -> int:
        """How often each is run."""
        return self.repeats or (1 if self.quick else workload.repeats)

    def arguments(self, workload: Workload) -> list[str]:
        """The same as a command line for the guest."""
        return [
            *(f"--backend={backend}" for backend in self.backends),
            *(f"--granularity={granularity}" for granularity in self.granularities),
            *([f"--touch={self.touch}"] if self.touch else []),
            *([f"--size={self.size_bytes >> 20}m"] if self.size_bytes else []),
            f"--seed={self.seed}",
            f"--repeat={self.repeats_of(workload)}",
        ]


@click.group()
def experiment() -> None:
    """Measure what page tables cost, and what each backend gives back."""


@experiment.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def list_(as_json: bool) -> None:
    """Name the experiments."""
    workloads = registry().values()
    if as_json:
        described = [
            {
                "name": workload.name,
                "description": workload.description,
                "size_bytes": workload.size_bytes,
                "touch": list(workload.touches),
                "granularity": list(workload.granularities),
                "repeats": workload.repeats,
                "guest_memory": workload.guest_memory,
            }
            for workload in workloads
        ]
        click.echo(json.dumps({"experiments": described}, indent=1))
        return
    width = max(len(workload.name) for workload in workloads)
    for workload in workloads:
        click.echo(f"{workload.name:{width}}  {workload.description}")


@experiment.command("run")
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Run every experiment.")
@click.option("--quick", is_flag=True, help="Run each once: sizes are exact, times are not.")
@click.option(
    "--kernel",
    "kernels",
    multiple=True,
    metavar="6.1|6.12|7.3|PATH",
    help=f"Kernel of the lab's guest, {DEFAULT_KERNEL} by default; may be given several times.",
)
@click.option("--host", is_flag=True, help="Run here, not in the lab.")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=click.Choice(measure.BACKENDS),
    help="Several times for several; by default all that work.",
)
@click.option(
    "--granularity",
    "granularities",
    multiple=True,
    type=click.Choice(list(GRANULARITIES)),
    help="Size of each release call; several times for several.",
)
@click.option("--touch", type=click.Choice(TOUCHES), help="Pages touched in each 2 MiB.")
@click.option("--size", "size_bytes", type=Size(), help="Map less, or more: 64g, 1t.")
@click.option("--seed", type=click.IntRange(min=0, max=2**64 - 1), default=1, show_default=True)
@click.option("--repeat", "repeats", type=click.IntRange(min=1), help="Runs of each kind.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="results",
    show_default=True,
    help="Directory for the JSON, the plots and report.html.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def run(
    names: tuple[str, ...],
    everything: bool,
    kernels: tuple[str, ...],
    host: bool,
    out: Path,
    as_json: bool,
    **options: object,
) -> None:
    """Run experiments in the lab's guest, or here with --host; draw plots and a report of them."""
    if host and kernels:
        raise click.UsageError("--host runs on the kernel that is there: leave out --kernel")
    workloads = _chosen(names, everything)
    chosen = Options(**options)  # type: ignore[arg-type]
    parameters = {workload.name: chosen.parameters(workload) for workload in workloads}
    if not _IN_LAB:
        _check_writable(out)
    documents: list[Document] = []
    failure: CleanupError | None = None
    try:
        for kernel in (None,) if host else kernels or (DEFAULT_KERNEL,):
            for workload in workloads:
                document = _measure(workload, chosen, parameters[workload.name], kernel)
                documents.append(document)
    except CleanupError as error:
        failure = error
    if not _IN_LAB:
        _store(documents, out)
    _print(documents, as_json)
    if failure is not None:
        raise failure
    if broken := _violations(documents):
        raise CleanupError("\n".join(broken))


def _chosen(names: Sequence[str], everything: bool) -> list[Workload]:
    workloads = registry()
    for name in names:
        if name not in workloads:
            raise click.UsageError(
                f"no experiment is called {name!r}: choose from {', '.join(workloads)}"
            )
    if everything:
        return list(workloads.values())
    if not names:
        raise click.UsageError("name an experiment, or give --all")
    return [workloads[name] for name in dict.fromkeys(names)]


def _check_writable(out: Path) -> None:
    """Find out before hours of work, and make nothing yet: Ctrl-C is to leave nothing behind."""
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise CleanupError(f"{existing} can't be written to: choose another --out")


def _say(message: str) -> None:
    click.echo(message, err=True)


def _measure(
    workload: Workload, options: Options, parameters: Sequence[Parameters], kernel: str | None
) -> Document:
    """In the lab, or here where no kernel is given."""
    if kernel is None:
        document = measure.run(
            workload,
            parameters=parameters,
            backends=options.backends,
            repeats=options.repeats_of(workload),
            accelerator=os.environ.get("PGTABLE_CLEANUP_ACCELERATOR", "host"),
            progress=_say,
        )
    else:
        # A guest, which runs this very command with --host, has no use for the lab.
        from cleanup.experiments import in_lab  # noqa: PLC0415

        _say(f"{workload.name}: in the lab, on {kernel}")
        pages = parameters[0].size_bytes >> (12 if parameters[0].touch == "all" else 21)
        runs = len(parameters) * len(measure.BACKENDS) * options.repeats_of(workload)
        document = in_lab.run(
            workload,
            options.arguments(workload),
            kernel=kernel,
            timeout_seconds=_SECONDS_MORE + runs * pages * _SECONDS_A_PAGE,
        )
    # In a guest git would be slow, and refuse what is not its user's.
    return document if _IN_LAB else {**document, "commit": commit()}


def _store(documents: Sequence[Document], out: Path) -> None:
    # matplotlib takes long to import, and a guest draws nothing.
    from cleanup.experiments import report  # noqa: PLC0415

    for document in documents:
        write(document, out / _file_name(document))
    if documents:
        for path in report.write_all(read_all(out), out):
            _say(f"written: {path}")


def _file_name(document: Document) -> str:
    major_minor = ".".join(document["kernel"].split(".")[:2])
    where = "host" if document["accelerator"] == "host" else "lab"
    return f"{document['experiment']}-{where}-{major_minor}.json"


def _print(documents: Sequence[Document], as_json: bool) -> None:
    if not documents:
        return
    if as_json:
        single = len(documents) == 1
        content = documents[0] if single else {"experiments": list(documents)}
        click.echo(json.dumps(content, indent=1))
    else:
        # rich takes long to import in a guest, which prints JSON.
        from cleanup.experiments import table  # noqa: PLC0415

        table.show(documents)


def _violations(documents: Sequence[Document]) -> list[str]:
    return [
        f"{document['experiment']} on {document['kernel']}, {run['backend']} at "
        f"{run['granularity']}: {violation}"
        for document in documents
        for run in document["runs"]
        for violation in run["violations"]
    ]
