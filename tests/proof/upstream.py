# SPDX-License-Identifier: MIT
"""The proof that the module has none of the bugs that Linux had where it frees page tables."""

import inspect
import sys
from collections.abc import Sequence

from proof.guests import Job, Stage
from proof.scenarios import upstream
from proof.scenarios.races import POINTS
from proof.task import Outcome, ProofFailed, Task

BUGS = [
    name
    for name, function in inspect.getmembers(upstream, inspect.isfunction)
    if function.__module__ == upstream.__name__ and function in POINTS
]
# A race may not come about on a busy machine: such a run is repeated with another seed.
ATTEMPTS = 3
NOT_ON = {
    # 6.8 brought UFFDIO_MOVE.
    "uffdio_move_into_a_vanished_table": ("6.1",),
    # Before 6.6 khugepaged and the module both hold the mmap lock for writing, and never meet.
    "khugepaged_against_a_vanished_table": ("6.1",),
}


def prove(task: Task) -> Outcome:
    """Play each scenario with several seeds, all in one guest."""
    bugs = [bug for bug in BUGS if task.line not in NOT_ON.get(bug, ()) and task.only in bug]
    runs = range(task.seed, task.seed + task.amount)
    jobs = [Job(f"upstream.{bug}", seed) for bug in bugs for seed in runs]
    with Stage(task.guests_kernel, progress=task.progress) as stage:
        wrong = _not_passed(jobs, len(runs), stage)
    if wrong:
        raise ProofFailed(f"{len(wrong)} of {len(jobs)} runs did not pass")
    return Outcome({"runs_each": len(runs), "bugs": bugs}, "\n".join(stage.logs))


def _not_passed(jobs: Sequence[Job], runs: int, stage: Stage) -> list[Job]:
    """Play jobs, inconclusive ones again; return those that failed or stayed inconclusive."""
    failed: list[Job] = []
    for _ in range(ATTEMPTS):
        seen = stage.play(jobs)
        for job, one in seen.items():
            sys.stderr.write(f"{job}: {one.outcome} {one.report}".rstrip() + "\n")
        failed += [job for job, one in seen.items() if one.outcome == "failed"]
        undecided = [job for job, one in seen.items() if one.outcome == "inconclusive"]
        jobs = [Job(job.scenario, job.seed + runs) for job in undecided]
        if not jobs:
            break
    return [*failed, *jobs]
