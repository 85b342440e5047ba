# SPDX-License-Identifier: MIT
"""The process under measurement: it runs one workload once, as its standard input orders.

It halts at every phase until `measure`, which started it, has read its figures.  It imports
little, because each run starts a new process in guests where imports are slow.
"""

import json
import sys
from dataclasses import asdict, replace
from typing import Any

from cleanup.errors import CleanupError
from experiments import registry
from experiments.phases import Parameters
from experiments.stage import Performance, Rehearsal
from experiments.workload import Workload


def _receive() -> Any:  # noqa: ANN401 -- what JSON holds
    """Return the next message of `measure`, a line of JSON."""
    line = sys.stdin.readline()
    if not line:  # `measure` has ended, and its pipe is closed
        raise SystemExit(1)
    return json.loads(line)


def _send(**message: object) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201


def _halt(**figures: object) -> None:
    _send(**figures)
    _receive()


def main() -> int:
    """Run the workload that is ordered, first as a rehearsal, and send a report."""
    order = _receive()
    try:
        workload = registry.find(order["workload"])
        assert isinstance(workload, Workload)  # noqa: S101 -- `measure` asks for no other
        parameters = Parameters(**order["parameters"])
        size_bytes = min(workload.rehearsal_bytes, parameters.size_bytes)
        rehearsal = Rehearsal(order["method"], zero_pages=workload.zero_pages)
        workload.run(rehearsal, replace(parameters, size_bytes=size_bytes))
        performance = Performance(order["method"], _halt, zero_pages=workload.zero_pages)
        outcome = workload.run(performance, parameters)
    except (CleanupError, OSError) as error:
        _send(error=str(error))
        return 1
    _send(**asdict(outcome), **rehearsal.report, **performance.report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
