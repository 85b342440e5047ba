# SPDX-License-Identifier: MIT
"""Runs of a workload, each in a process of its own that is measured from outside."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import cleanup
from cleanup.methods import Features
from cleanup.proc import pagetables_bytes, settled_pagetables_bytes
from experiments import oracle
from experiments.part import ExperimentError
from experiments.phases import METHODS, PHASES, Parameters, Phase, Run
from experiments.sparse import PAGE, Bounds


@dataclass
class _Observed:
    """The figures that have been read of the target process so far."""

    drops_zero_pages: bool
    phases: dict[str, Phase] = field(default_factory=dict)
    censuses: dict[str, oracle.Census] = field(default_factory=dict)

    def add(
        self, pids: Sequence[int], phase: str, seconds: float, populated: Sequence[Bounds]
    ) -> None:
        """Read the halted processes; for a phase read before, keep the higher VmPTE."""
        tables = [cleanup.page_tables(pid) for pid in pids]
        vmpte_bytes = sum(one.vmpte_bytes for one in tables)
        before = self.phases.get(phase)
        if before is None or vmpte_bytes > before["vmpte_bytes"]:
            self.phases[phase] = {
                "vmpte_bytes": vmpte_bytes,
                "pagetables_bytes": (
                    pagetables_bytes() if phase == "touched" else settled_pagetables_bytes()
                ),
                "rss_bytes": sum(one.rss_bytes for one in tables),
                "seconds": 0.0,
            }
        self.phases[phase]["seconds"] = seconds + (before["seconds"] if before else 0.0)
        if phase != "touched":
            self.censuses[phase] = oracle.total(
                oracle.observe(pid, populated, zero_pages=not self.drops_zero_pages) for pid in pids
            )


def usable(wanted: Sequence[str], features: Features) -> tuple[list[str], dict[str, str]]:
    """Return the methods to run, and by name the reasons why others are left out.

    If `wanted` is empty, all that work are run. Raises ExperimentError where it names the module
    and the module doesn't work.
    """
    unavailable = {
        name: "; ".join(features.methods[name].reasons)
        for name in METHODS
        if not features.methods[name].works
    }
    if not wanted:
        return [name for name in METHODS if name not in unavailable], unavailable
    if "module" in wanted and "module" in unavailable:
        raise ExperimentError(
            f"method module does not work here: {unavailable['module']}: "
            "leave out --host to run in the lab, or choose another --method"
        )
    # A zap can be measured even on kernels that free no tables by it.
    return [name for name in METHODS if name in wanted], {}


def run_once(
    workload: str, parameters: Parameters, method: str, repeat: int, *, zero_pages: bool
) -> Run:
    """Run a workload in a process of its own; the result names the invariants it broke.

    Raises ExperimentError if the run fails.
    """
    observed = _Observed(zero_pages)
    order = {"workload": workload, "method": method, "parameters": asdict(parameters)}
    # In a session of its own the target gets no Ctrl-C; this process does, and ends the target.
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "experiments.target"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as target:
        try:
            outcome = _converse(target, order, observed)
        finally:
            target.kill()
    if missing := [phase for phase in PHASES if phase not in observed.phases]:
        raise ExperimentError(f"{workload} never reached {missing[0]}: this is a bug in it")
    return _result(method, parameters.granularity, repeat, observed, outcome)


def _converse(
    target: subprocess.Popen[str], order: dict[str, Any], observed: _Observed
) -> dict[str, Any]:
    """Send the order to the target, read its figures at each halt, and return its report."""
    assert target.stdin is not None  # noqa: S101 -- it is a pipe: for mypy
    assert target.stdout is not None  # noqa: S101
    what = f"{order['workload']} by {order['method']}"
    # No buffer: with bytes for a dead process in it, closing it would fail again.
    answers = target.stdin.fileno()
    try:
        os.write(answers, json.dumps(order).encode() + b"\n")
        for line in target.stdout:
            message: dict[str, Any] = json.loads(line)
            if "error" in message:
                raise ExperimentError(f"{what}: {message['error']}")
            if "phase" not in message:
                return message
            pids = [target.pid, *message["pids"]]
            observed.add(pids, message["phase"], message["seconds"], message["populated"])
            os.write(answers, b"{}\n")
    except OSError as error:
        if target.poll() is None:
            raise ExperimentError(f"{what}: reading its process failed: {error}") from error
    raise ExperimentError(
        f"{what}: its process ended with status {target.wait()} before the measurement did: "
        "see its messages above, and the kernel's log for lack of memory"
    )


def _result(
    method: str, granularity: str, repeat: int, observed: _Observed, reported: dict[str, Any]
) -> Run:
    # Tables that were empty before the mapping was made don't come from the workload.
    at_start = observed.censuses["start"].empty_pte
    released, cleaned = observed.censuses["released"], observed.censuses["cleaned"]
    measured = {
        "method": method,
        "granularity": granularity,
        "repeat": repeat,
        "phases": {phase: observed.phases[phase] for phase in PHASES},
        "empty_tables": released.empty_pte - at_start,
        "empty_tables_after": cleaned.empty_pte - at_start,
        "empty_upper_tables": {"pmd": released.pmd_empty, "pud": released.pud_empty},
        # Not the empty tables that went: a zap also frees those of pages that page reclaim has
        # passed over, and khugepaged may turn a table into a deposited one meanwhile.
        "freed": {"pte": _fall(observed.phases) // PAGE, "pmd": 0, "pud": 0},
        "skipped": {},
        # The module's own count takes the place of this one.
        **reported,
    }
    run = cast(Run, measured)
    run["violations"] = violations(run)
    return run


def _fall(phases: Mapping[str, Phase]) -> int:
    """Return by how many bytes VmPTE fell in the cleaning."""
    return phases["released"]["vmpte_bytes"] - phases["cleaned"]["vmpte_bytes"]


def violations(run: Run) -> list[str]:
    """Return the invariants that a run broke, a sentence each.

    The target does nothing else meanwhile, so VmPTE must fall by just the tables reported freed,
    and stay where nothing frees any. On each level, the module must free every table that the
    oracle found empty.
    """
    found = []
    freed = run["freed"]
    fall = _fall(run["phases"])
    tables = freed["pte"] + freed["pmd"] + freed["pud"]
    if tables * PAGE != fall:
        found.append(f"freed {tables} tables of 4096 bytes, but VmPTE fell by {fall} bytes")
    if run["method"] == "none" and fall:
        found.append(f"nothing was to free tables, but VmPTE fell by {fall} bytes")
    if run["method"] == "module":
        empty = {"pte": run["empty_tables"], **run["empty_upper_tables"]}
        found += [
            f"freed {count} {level.upper()} tables, but {empty[level]} were empty"
            for level, count in freed.items()
            if count != empty[level]
        ]
    if not run["contents_intact"]:
        found.append("contents changed")
    return found
