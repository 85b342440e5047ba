# SPDX-License-Identifier: MIT
"""`pgtable-cleanup experiment sweep`: many runs, resumed where they stopped."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from cleanup.commands._sizes import DEFAULT_KERNEL, Size
from cleanup.errors import CleanupError
from experiments import measure
from experiments.workload import GRANULARITIES
from experiments.workloads import registry


@click.command("sweep")
@click.argument("workloads", metavar="WORKLOAD...", nargs=-1, type=click.Choice(list(registry())))
@click.option(
    "--kernel",
    "kernels",
    multiple=True,
    default=[DEFAULT_KERNEL],
    show_default=True,
    metavar="6.1|6.12|7.3|PATH|host",
    help="Several times for several; host: not in the lab, but where the worker is.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=click.Choice(measure.BACKENDS),
    default=["none", "module"],
    show_default=True,
)
@click.option("--size", "sizes", multiple=True, type=Size(), help="Several times for several: 64g.")
@click.option(
    "--granularity", "granularities", multiple=True, type=click.Choice(list(GRANULARITIES))
)
@click.option("--seed", type=click.IntRange(min=0, max=2**64 - 1), default=1, show_default=True)
@click.option("--repeat", "repeats", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Runs at once, here; by default CPUs / 2."
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="A Dask scheduler whose workers are to run it."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="results/sweep",
    show_default=True,
    help="Directory for the JSON, a file each run.",
)
@click.option("--json", "as_json", is_flag=True, help="What was run, as JSON on standard output.")
def sweep(
    workloads: tuple[str, ...],
    kernels: tuple[str, ...],
    backends: tuple[str, ...],
    sizes: tuple[int, ...],
    granularities: tuple[str, ...],
    seed: int,
    repeats: int,
    workers: int | None,
    scheduler: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Run every combination of kernel, backend, WORKLOAD and size that has no result yet.

    All workloads by default, at their own sizes; of three sizes or more a plot shows how page
    tables and times grow with them. Stopped or killed, a sweep goes on where it was when it is
    started again. On more machines: start `dask scheduler` on one and `dask worker` on each, with
    this package in their environments, and name the first by --scheduler.
    """
    # Dask takes long to import.
    from experiments import sweep as engine  # noqa: PLC0415

    wanted = engine.points(
        workloads or list(registry()),
        kernels,
        backends,
        sizes,
        granularities,
        seed=seed,
        repeats=repeats,
    )
    ended = engine.run(
        wanted,
        out,
        scheduler=scheduler,
        workers=workers,
        progress=lambda said: click.echo(said, err=True),
    )
    # matplotlib takes long to import, too.
    from experiments import scale  # noqa: PLC0415

    for path in scale.draw_all(engine.results(out, wanted), out):
        click.echo(f"written: {path}", err=True)
    click.echo(f"{len(ended.measured)} measured, {len(ended.kept)} kept in {out}", err=True)
    if as_json:
        click.echo(json.dumps(asdict(ended), indent=1))
    if ended.failed:
        raise CleanupError("\n".join(f"{name}: {reason}" for name, reason in ended.failed.items()))
