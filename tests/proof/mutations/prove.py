# SPDX-License-Identifier: MIT
"""The proof that every protection is needed, and that its absence is noticed."""

import sys

from proof import evidence
from proof.mutations.bench import Bench, standing, wanted
from proof.task import Outcome, ProofFailed, Task


def prove(task: Task) -> Outcome:
    """Judge each mutation that matters on the kernel; use earlier verdicts that are still valid.

    Each verdict is saved at once, so that an interrupted proof goes on after the last one.
    """
    mutations = wanted(task.line, task.only)
    kernel = task.guests_kernel
    known = standing(kernel, task.line, task.known.get("mutations", []))
    evidence.replace(task.work / "mutations.json", list(known.values()))
    missing = [one for one in mutations if one.name not in known]
    bench = Bench(task.line, kernel, task.amount, task.progress)
    for verdict in bench.judge_all(missing, full=task.scale == "long") if missing else ():
        known[verdict["name"]] = verdict
        evidence.replace(task.work / "mutations.json", list(known.values()))
        caught = f"caught in {verdict['caught_runs']} of {verdict['runs']} runs"
        sys.stderr.write(f"{kernel.release}: {verdict['name']}: {caught}: {verdict['report']}\n")
    verdicts = [known[one.name] for one in mutations]
    missed = [one["name"] for one in verdicts if not one["caught"]]
    if missed:
        raise ProofFailed(f"not caught: {', '.join(missed)}")
    return Outcome({"mutations": verdicts}, "\n".join(bench.logs))
