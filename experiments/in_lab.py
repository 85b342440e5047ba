# SPDX-License-Identifier: MIT
"""Runs an experiment's command in guests of the lab and brings its JSON back."""

import json
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from cleanup import lab
from cleanup.lab.machine import size_in_bytes
from cleanup.lab.progress import on_stderr
from experiments.document import Document
from experiments.measure import BACKENDS, ExperimentError
from experiments.workload import NO_RELEASE, Parameters, Workload

# What a guest without KVM takes at most, for each page touched and around the runs, in seconds.
_SECONDS_A_PAGE = 2e-4
_SECONDS_MORE = 600


def run(
    workload: Workload,
    *,
    parameters: Sequence[Parameters],
    backends: Sequence[str],
    repeats: int,
    kernel: str,
) -> Document:
    """Run `experiment run NAME --host --json` in a guest: as `measure.run` does here.

    The guest's messages go to stderr as they come.  Raises LabError where the lab fails,
    ExperimentError where the command ends without a result; invariants that a run broke
    are in the document.
    """
    common = parameters[0]
    pages = common.size_bytes >> (12 if common.touch == "all" else 21)
    runs = len(parameters) * len(backends or BACKENDS) * repeats
    document, result = run_json(
        workload.name,
        [
            str(Path(sysconfig.get_path("scripts")) / "pgtable-cleanup"),
            *["experiment", "run", workload.name, "--host", "--json"],
            *(f"--backend={backend}" for backend in backends),
            *(
                f"--granularity={one.granularity}"
                for one in parameters
                if one.granularity != NO_RELEASE
            ),
            *[f"--touch={common.touch}", f"--size={common.size_bytes >> 20}m"],
            *[f"--seed={common.seed}", f"--repeat={repeats}"],
        ],
        kernel=kernel,
        memory=memory(workload, common.size_bytes),
        disk=workload.guest_disk,
        timeout=_SECONDS_MORE + runs * pages * _SECONDS_A_PAGE,
    )
    return cast(Document, {**document, "clock": clock(result)})


def memory(workload: Workload, size_bytes: int) -> str:
    """What a guest needs that maps so much: beyond the workload's own size, in proportion."""
    own = size_in_bytes(workload.guest_memory)
    return f"{max(own, own * size_bytes // workload.size_bytes) >> 20}M"


def run_json(
    what: str,
    command: Sequence[str],
    *,
    kernel: str | lab.Kernel,
    **options: Any,  # noqa: ANN401 -- those of lab.run
) -> tuple[dict[str, Any], lab.GuestResult]:
    """The JSON that a command of `what` prints in a guest, and the run; raises as `run` does."""
    result = lab.run(command, kernel=kernel, on_stderr=_forward, progress=on_stderr(), **options)
    try:
        return json.loads(result.stdout), result
    except ValueError as error:
        raise ExperimentError(
            f"{what} on {result.kernel_release}: the guest's command ended with exit code "
            f"{result.exit_code} and without a result: see its messages above"
        ) from error


def clock(result: lab.GuestResult) -> dict[str, float]:
    """The guest's clock and the host's: times count only where they agree."""
    return {
        "guest_seconds": result.guest_seconds,
        "host_seconds": result.seconds,
        "agree": result.clock_ok,
    }


def _forward(output: bytes) -> None:
    sys.stderr.buffer.write(output)
    sys.stderr.buffer.flush()
