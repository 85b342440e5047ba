# SPDX-License-Identifier: MIT
"""`pgtable-cleanup experiment sweep`: many runs, resumed where they stopped."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cleanup.commands import _scale
from cleanup.commands._output import json_option, print_document
from cleanup.errors import CleanupError
from cleanup.lab import DEFAULT
from experiments import provenance, registry
from experiments.workload import Workload


def _workloads() -> dict[str, Workload]:
    return {name: part for name, part in registry.all_parts().items() if isinstance(part, Workload)}


@click.command("sweep")
@click.argument("names", metavar="WORKLOAD...", nargs=-1, type=click.Choice(list(_workloads())))
@_scale.kernel_option
@click.option("--host", is_flag=True, help="Run where the workers are, not in the lab.")
@_scale.method_option("none and module")
@click.option(
    "--size", "sizes", multiple=True, type=_scale.size, help="Several times for several: 64g."
)
@_scale.granularity_option
@_scale.seed_option
@click.option("--repeat", "repeats", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Runs at once, here; by default CPUs / 2."
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="A Dask scheduler whose workers are to run it."
)
@_scale.out_option("results/sweep")
@click.option(
    "--keep-other-commits",
    is_flag=True,
    help="Run nothing again that another commit has measured, or files that differ from it.",
)
@json_option
def sweep(
    names: tuple[str, ...],
    kernels: tuple[str, ...],
    host: bool,
    methods: tuple[str, ...],
    backends: tuple[str, ...],
    sizes: tuple[int, ...],
    workers: int | None,
    scheduler: str | None,
    out: Path,
    keep_other_commits: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401 -- those of `points`
) -> None:
    """Run every combination of kernel, method, WORKLOAD and size that has no result yet.

    All workloads are run by default, each at its own size. Given three sizes or more, a plot shows
    how page tables and times grow. A sweep that was stopped or killed goes on from there when it
    is started again. For more machines, start `dask scheduler` on one and `dask worker` on each,
    with this checkout in their environments, and give the scheduler's address to --scheduler.
    """
    if host and kernels:
        raise click.UsageError("--host runs on the kernel that is there: leave out --kernel")
    # Dask and matplotlib take long to import.
    from experiments import growth  # noqa: PLC0415
    from experiments import sweep as engine  # noqa: PLC0415

    known = _workloads()
    wanted = engine.points(
        [known[name] for name in names or known],
        [engine.HOST] if host else list(kernels or [DEFAULT]),
        (*methods, *backends) or ("none", "module"),
        sizes,
        **options,
    )
    store = engine.Store(out, provenance.commit(), keep_other_commits)
    ended = engine.run(
        wanted,
        store,
        scheduler=scheduler,
        workers=workers,
        progress=lambda said: click.echo(said, err=True),
    )
    for path in growth.draw_all(store.results(wanted), out):
        click.echo(f"written: {path}", err=True)
    click.echo(f"{len(ended.measured)} measured, {len(ended.kept)} kept in {out}", err=True)
    if as_json:
        print_document(asdict(ended))
    if ended.failed:
        raise CleanupError("\n".join(f"{name}: {reason}" for name, reason in ended.failed.items()))
