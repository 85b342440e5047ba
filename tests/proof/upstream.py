# SPDX-License-Identifier: MIT
"""The scenarios that are named after upstream's own bugs, on a debug kernel.

python -m proof.upstream --kernel 6.12
"""

import inspect
import secrets
import time
from pathlib import Path

import click

from cleanup import lab
from cleanup.errors import CleanupError
from cleanup.lab.progress import on_stderr
from proof import guests, results
from proof.guests import Job
from proof.scenarios import upstream
from proof.scenarios.races import POINTS

BUGS = [
    name
    for name, function in inspect.getmembers(upstream, inspect.isfunction)
    if function.__module__ == upstream.__name__ and function in POINTS
]
# 6.8 brought UFFDIO_MOVE.
NOT_ON = {"uffdio_move_into_a_vanished_table": ("6.1",)}


@click.command()
@click.option("--kernel", "name", type=click.Choice(list(lab.SOURCES)), required=True)
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seed", type=int, help="Of the first run; a new one by default.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
def main(name: str, runs: int, seed: int | None, out: Path) -> None:
    """See the module."""
    begun = time.monotonic()
    progress = on_stderr()
    kernel = lab.get_debug_kernel(name, "debug", progress=progress)
    first = secrets.randbits(32) if seed is None else seed
    bugs = [bug for bug in BUGS if name not in NOT_ON.get(bug, ())]
    jobs = [Job(f"upstream.{bug}", first + number) for bug in bugs for number in range(runs)]
    seen = guests.run(jobs, kernel, progress=progress)
    wrong = {job: one for job, one in seen.items() if one.outcome != "passed"}
    for job in jobs:
        click.echo(f"{kernel.release}: {job}: {seen[job].outcome} {seen[job].report}".rstrip())
    if wrong:
        raise click.ClickException(f"{len(wrong)} of {len(jobs)} runs did not pass")
    figures: results.Figures = {"runs_each": runs, "bugs": bugs, "failures": []}
    document = results.document("upstream", first, begun, figures, kernel=kernel.release)
    results.replace(out / f"upstream-{name}.json", document)


if __name__ == "__main__":
    try:
        main.main(prog_name="proof.upstream")
    except CleanupError as error:
        raise SystemExit(f"proof.upstream: {error}") from None
