# SPDX-License-Identifier: MIT
"""The scenarios that are named after upstream's own bugs, on a debug kernel.

python -m proof.upstream --kernel 6.12
"""

import inspect
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import click

from cleanup import lab
from cleanup.errors import CleanupError
from cleanup.lab.progress import Progress, on_stderr
from proof import guests, results
from proof.guests import Job
from proof.scenarios import upstream
from proof.scenarios.races import POINTS

BUGS = [
    name
    for name, function in inspect.getmembers(upstream, inspect.isfunction)
    if function.__module__ == upstream.__name__ and function in POINTS
]
RESULTS = Path("evidence/proofs")
# A busy machine may keep a race from coming about: such a run is made again, with another seed.
ATTEMPTS = 3
NOT_ON = {
    # 6.8 brought UFFDIO_MOVE.
    "uffdio_move_into_a_vanished_table": ("6.1",),
    # Before 6.5 it holds the mmap lock for writing, as does who frees a table there.
    "khugepaged_against_a_vanished_table": ("6.1",),
}


@click.command()
@click.option("--kernel", "name", type=click.Choice(list(lab.SOURCES)), required=True)
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seed", type=int, help="Of the first run; a new one by default.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(name: str, runs: int, seed: int | None, out: Path) -> None:
    """See the module."""
    begun = time.monotonic()
    progress = on_stderr()
    kernel = lab.get_debug_kernel(name, "debug", progress=progress)
    first = secrets.randbits(32) if seed is None else seed
    bugs = [bug for bug in BUGS if name not in NOT_ON.get(bug, ())]
    jobs = [Job(f"upstream.{bug}", first + number) for bug in bugs for number in range(runs)]
    wrong = _not_passed(jobs, runs, kernel, progress)
    if wrong:
        raise click.ClickException(f"{len(wrong)} of {len(jobs)} runs did not pass")
    figures: results.Figures = {"runs_each": runs, "bugs": bugs, "failures": []}
    document = results.document("upstream", first, begun, figures, kernel=kernel.release)
    results.replace(out / f"upstream-{name}.json", document)


def _not_passed(
    jobs: Sequence[Job], runs: int, kernel: lab.Kernel, progress: Progress
) -> list[Job]:
    """Run them, and those that decided nothing again; those that failed, or never decided."""
    failed: list[Job] = []
    for _ in range(ATTEMPTS):
        seen = guests.run(jobs, kernel, progress=progress)
        for job, one in seen.items():
            click.echo(f"{kernel.release}: {job}: {one.outcome} {one.report}".rstrip())
        failed += [job for job, one in seen.items() if one.outcome == "failed"]
        undecided = [job for job, one in seen.items() if one.outcome == "inconclusive"]
        jobs = [Job(job.scenario, job.seed + runs) for job in undecided]
        if not jobs:
            break
    return [*failed, *jobs]


if __name__ == "__main__":
    try:
        main.main(prog_name="proof.upstream")
    except CleanupError as error:
        raise SystemExit(f"proof.upstream: {error}") from None
