# SPDX-License-Identifier: MIT
"""Runs an experiment's command in a guest of the lab and brings its JSON back."""

import json
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from cleanup import lab
from cleanup.experiments.document import Document
from cleanup.experiments.measure import ExperimentError
from cleanup.experiments.workload import Workload
from cleanup.lab.progress import on_stderr


def run(
    workload: Workload, arguments: Sequence[str], *, kernel: str, timeout_seconds: float
) -> Document:
    """Run `experiment run NAME --host --json` with more `arguments` in a guest.

    The guest's messages go to stderr as they come.  Raises LabError where the lab fails,
    ExperimentError where the command ends without a result; invariants that a run broke
    are in the document.
    """
    command = str(Path(sysconfig.get_path("scripts")) / "pgtable-cleanup")
    result = lab.run(
        [command, "experiment", "run", workload.name, "--host", "--json", *arguments],
        kernel=kernel,
        memory=workload.guest_memory,
        disk=workload.guest_disk,
        timeout=timeout_seconds,
        on_stderr=_forward,
        progress=on_stderr(),
    )
    try:
        document = cast(Document, json.loads(result.stdout))
    except ValueError as error:
        raise ExperimentError(
            f"{workload.name} on {kernel}: the guest's command ended with exit code "
            f"{result.exit_code} and without a result: see its messages above"
        ) from error
    return {
        **document,
        "clock": {
            "guest_seconds": result.guest_seconds,
            "host_seconds": result.seconds,
            "agree": result.clock_ok,
        },
    }


def _forward(output: bytes) -> None:
    sys.stderr.buffer.write(output)
    sys.stderr.buffer.flush()
