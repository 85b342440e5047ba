# SPDX-License-Identifier: MIT
"""`pgtable-cleanup experiment`: measure what page tables cost and what each backend gives back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import click

from cleanup.commands._sizes import DEFAULT_KERNEL, Size
from cleanup.commands._stop import unwind_when_stopped
from cleanup.commands.sweep import sweep
from cleanup.errors import CleanupError
from experiments import measure
from experiments.document import (
    AnyDocument,
    Document,
    SuiteDocument,
    is_suite,
    read_all,
    with_other_parts,
    write,
)
from experiments.provenance import commit
from experiments.suite import run as suite_run
from experiments.suite.registry import SUITES
from experiments.suite.suite import Suite
from experiments.workload import GRANULARITIES, TOUCHES, Parameters, Workload
from experiments.workloads import registry

_IN_LAB = "PGTABLE_CLEANUP_LAB" in os.environ


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of `run`, parsed; None and () are a workload's own defaults."""

    backends: tuple[str, ...]
    granularities: tuple[str, ...]
    touch: str | None
    size_bytes: int | None
    seed: int
    repeats: int | None
    parts: tuple[str, ...]
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

    def arguments(self) -> Iterator[str]:
        """The same on a command line."""
        for option, values in (
            ("backend", self.backends),
            ("granularity", self.granularities),
            ("part", self.parts),
        ):
            yield from (f"--{option}={value}" for value in values)
        yield f"--seed={self.seed}"
        if self.touch:
            yield f"--touch={self.touch}"
        if self.size_bytes:
            yield f"--size={self.size_bytes >> 20}m"
        if self.repeats:
            yield f"--repeat={self.repeats}"
        if self.quick:
            yield "--quick"

    def backends_in_lab(self) -> tuple[str, ...]:
        """The module says what is left and what is saved: what is quick needs no more."""
        return self.backends or (("module",) if self.quick else ())

    def repeats_of(self, workload: Workload) -> int:
        """How often each is run."""
        return self.repeats or (1 if self.quick else workload.repeats)


class Experiment(Protocol):
    """What a name on the command line stands for."""

    @property
    def name(self) -> str:
        """On the command line, and in the JSON."""

    @property
    def description(self) -> str:
        """One sentence, without its full stop."""

    def described(self) -> dict[str, Any]:
        """For `list --json`."""

    def check(self, options: Options) -> None:
        """UsageError where it can't be run so."""

    def measure(self, options: Options, kernel: str | None) -> AnyDocument:
        """In the lab, or here where no kernel is given."""


@dataclass(frozen=True, slots=True)
class _OfWorkload:
    """A workload under every backend."""

    workload: Workload

    @property
    def name(self) -> str:
        return self.workload.name

    @property
    def description(self) -> str:
        return self.workload.description

    def described(self) -> dict[str, Any]:
        workload = self.workload
        return {
            "name": workload.name,
            "description": workload.description,
            "size_bytes": workload.size_bytes,
            "touch": list(workload.touches),
            "granularity": list(workload.granularities),
            "repeats": workload.repeats,
            "guest_memory": workload.guest_memory,
        }

    def check(self, options: Options) -> None:
        if options.parts:
            raise click.UsageError(f"{self.name} has no --part: {', '.join(SUITES)} have parts")
        options.parameters(self.workload)

    def measure(self, options: Options, kernel: str | None) -> Document:
        workload, parameters = self.workload, options.parameters(self.workload)
        if kernel is None:
            return measure.run(
                workload,
                parameters=parameters,
                backends=options.backends,
                repeats=options.repeats_of(workload),
                accelerator=os.environ.get("PGTABLE_CLEANUP_ACCELERATOR", "host"),
                progress=_say,
            )
        # A guest, which runs this very command with --host, has no use for the lab.
        from experiments import in_lab  # noqa: PLC0415

        _say(f"{workload.name}: in the lab, on {kernel}")
        return in_lab.run(
            workload,
            parameters=parameters,
            backends=options.backends_in_lab(),
            repeats=options.repeats_of(workload),
            kernel=kernel,
        )


@dataclass(frozen=True, slots=True)
class _OfSuite:
    """A suite, whose parts know their own sizes."""

    suite: Suite

    @property
    def name(self) -> str:
        return self.suite.name

    @property
    def description(self) -> str:
        return self.suite.description

    def described(self) -> dict[str, Any]:
        described = {name: part.description for name, part in self.suite.parts().items()}
        return {"name": self.name, "description": self.description, "parts": described}

    def check(self, options: Options) -> None:
        for option, given in (
            ("backend", options.backends),
            ("granularity", options.granularities),
            ("touch", options.touch),
            ("size", options.size_bytes),
            ("repeat", options.repeats),
        ):
            if given:
                raise click.UsageError(
                    f"{self.name} has no --{option}: its parts measure fixed layouts, each way "
                    "in turn; choose parts by --part, fewer runs by --quick"
                )
        known = self.suite.parts()
        for name in options.parts:
            if name not in known:
                raise click.UsageError(
                    f"{self.name} has no part {name!r}: choose from {', '.join(known)}"
                )

    def measure(self, options: Options, kernel: str | None) -> SuiteDocument:
        names = list(dict.fromkeys(options.parts)) or list(self.suite.parts())
        if kernel is None:
            return suite_run.here(
                self.suite, names, quick=options.quick, seed=options.seed, progress=_say
            )
        return suite_run.in_guests(
            self.suite, names, kernel=kernel, quick=options.quick, seed=options.seed, progress=_say
        )


def _experiments() -> dict[str, Experiment]:
    found: list[Experiment] = [
        *map(_OfWorkload, registry().values()),
        *map(_OfSuite, SUITES.values()),
    ]
    return {one.name: one for one in sorted(found, key=lambda one: one.name)}


@click.group()
def experiment() -> None:
    """Measure what page tables cost, and what each backend gives back."""
    unwind_when_stopped()


experiment.add_command(sweep)


@experiment.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def list_(as_json: bool) -> None:
    """Name the experiments."""
    experiments = _experiments().values()
    if as_json:
        described = [one.described() for one in experiments]
        click.echo(json.dumps({"experiments": described}, indent=1))
        return
    width = max(len(one.name) for one in experiments)
    for one in experiments:
        click.echo(f"{one.name:{width}}  {one.description}")


@experiment.command("run")
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Run every experiment.")
@click.option("--quick", is_flag=True, help="Each once, in the lab by the module alone.")
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
    "--part",
    "parts",
    multiple=True,
    metavar="PART",
    help=f"Of {', '.join(SUITES)}: run only this; several times for several.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="results",
    show_default=True,
    help="Directory for the JSON, the plots and report.html.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Guests at once: 1 by default, and with --quick as many as this machine has room for.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
# For one of several jobs, whose results are stored together.
@click.option("--unstored", is_flag=True, hidden=True)
def run(
    names: tuple[str, ...],
    everything: bool,
    kernels: tuple[str, ...],
    host: bool,
    out: Path,
    jobs: int | None,
    as_json: bool,
    unstored: bool,
    **options: object,
) -> None:
    """Run experiments in the lab's guest, or here with --host; draw plots and a report of them."""
    if host and kernels:
        raise click.UsageError("--host runs on the kernel that is there: leave out --kernel")
    experiments = _chosen(names, everything)
    chosen = Options(**options)  # type: ignore[arg-type]
    for one in experiments:
        one.check(chosen)
    if host and jobs:
        raise click.UsageError("--host runs one after the other: leave out --jobs")
    stores = not (_IN_LAB or unstored)
    if stores:
        _check_writable(out)
    documents: list[AnyDocument] = []
    failure: CleanupError | None = None
    try:
        for document in _measured(
            experiments, chosen, (None,) if host else kernels or (DEFAULT_KERNEL,), jobs
        ):
            documents.append(document)  # noqa: PERF402 -- those before a failure are kept
    except CleanupError as error:
        failure = error
    if stores:
        _store(documents, out)
    _print(documents, as_json)
    if failure is not None:
        raise failure
    if broken := _violations(documents):
        raise CleanupError("\n".join(broken))


def _measured(
    experiments: Sequence[Experiment],
    options: Options,
    kernels: Sequence[str | None],
    jobs: int | None,
) -> Iterator[AnyDocument]:
    """On each kernel each experiment; CleanupError at the end where some have no result."""
    runs = [(one, kernel) for kernel in kernels for one in experiments]
    if len(runs) > 1 and None not in kernels and jobs != 1 and (jobs or options.quick):
        yield from _side_by_side([(one, str(kernel)) for one, kernel in runs], options, jobs)
        return
    for one, kernel in runs:
        document = one.measure(options, kernel)
        # In a guest git would be slow, and refuse what is not its user's.
        document["commit"] = None if _IN_LAB else commit()
        yield document


def _side_by_side(
    runs: Sequence[tuple[Experiment, str]], options: Options, jobs: int | None
) -> Iterator[AnyDocument]:
    from experiments import side_by_side  # noqa: PLC0415 -- a guest has no use for it

    jobs = jobs or side_by_side.at_once()
    # Suites take longest, and what comes last runs alone.
    runs = sorted(runs, key=lambda run: isinstance(run[0], _OfWorkload))
    tasks = [
        side_by_side.Task(
            f"{one.name} on {kernel}", [one.name, f"--kernel={kernel}", *options.arguments()]
        )
        for one, kernel in runs
    ]
    failed = []
    _say(f"{len(tasks)} runs, {jobs} at once")
    begin = time.monotonic()
    for number, (task, document, said) in enumerate(side_by_side.run(tasks, jobs), 1):
        _say(
            f"{number} of {len(tasks)}, after {time.monotonic() - begin:.0f} s: {task.name}"
            + ("" if document else " FAILED")
        )
        if document is None:
            failed.append(f"{task.name}:\n{said.rstrip()}")
        else:
            yield document
    if failed:
        raise CleanupError("\n".join(failed))


def _chosen(names: Sequence[str], everything: bool) -> list[Experiment]:
    experiments = _experiments()
    for name in names:
        if name not in experiments:
            raise click.UsageError(
                f"no experiment is called {name!r}: choose from {', '.join(experiments)}"
            )
    if everything:
        return list(experiments.values())
    if not names:
        raise click.UsageError("name an experiment, or give --all")
    return [experiments[name] for name in dict.fromkeys(names)]


def _check_writable(out: Path) -> None:
    """Find out before hours of work, and make nothing yet: Ctrl-C is to leave nothing behind."""
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise CleanupError(f"{existing} can't be written to: choose another --out")


def _say(message: str) -> None:
    click.echo(message, err=True)


def _store(documents: Sequence[AnyDocument], out: Path) -> None:
    # matplotlib takes long to import, and a guest draws nothing.
    from experiments import report  # noqa: PLC0415

    earlier = {_file_name(document): document for document in read_all(out)}
    for document in documents:
        name = _file_name(document)
        write(with_other_parts(document, earlier.get(name, document)), out / name)
    if documents:
        for path in report.write_all(read_all(out), out):
            _say(f"written: {path}")


def _file_name(document: AnyDocument) -> str:
    major_minor = ".".join(document["kernel"].split(".")[:2])
    where = "host" if document["accelerator"] == "host" else "lab"
    return f"{document['experiment']}-{where}-{major_minor}.json"


def _print(documents: Sequence[AnyDocument], as_json: bool) -> None:
    if not documents:
        return
    if as_json:
        single = len(documents) == 1
        content = documents[0] if single else {"experiments": list(documents)}
        click.echo(json.dumps(content, indent=1))
    else:
        # rich takes long to import in a guest, which prints JSON.
        from experiments import table  # noqa: PLC0415

        table.show(documents)


def _violations(documents: Sequence[AnyDocument]) -> list[str]:
    return [
        f"{document['experiment']} on {document['kernel']}, {violation}"
        for document in documents
        for violation in _complaints(document)
    ]


def _complaints(document: AnyDocument) -> list[str]:
    """What makes a run fail; a claim that is missed does not."""
    if is_suite(document):
        return [f"part {name}: {reason}" for name, reason in document["failures"].items()]
    return [
        f"{run['backend']} at {run['granularity']}: {violation}"
        for run in document["runs"]
        for violation in run["violations"]
    ]
