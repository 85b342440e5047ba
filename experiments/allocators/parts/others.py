# SPDX-License-Identifier: MIT
"""Allocators that leave next to nothing empty, or that the library can't see: what helps them."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cleanup
from cleanup.commands.exec import environment, library_path
from cleanup.errors import CleanupError
from cleanup.experiments import oracle
from cleanup.experiments.allocators.process import started
from cleanup.experiments.allocators.ways import MODULE, PLAIN, Way
from cleanup.experiments.measure import ExperimentError, Progress
from cleanup.experiments.suite.part import Guest, Part, Result, Row

_MEBIBYTES = 1024
_MOST = 1008
_OBJECTS = 2 * (_MEBIBYTES << 20) // _MOST
_KEPT = (5, 50, 1000, 100_000)
_GRACE = 2
_LIBRARIES = {
    "glibc": None,
    "tcmalloc": "libtcmalloc_minimal.so.4",
    "mimalloc": "libmimalloc.so.2",
}
_FOREIGN = Path(__file__).parents[1] / "foreign"
# G1 gives memory back at a collection; and Go's own collector does when it is told to.
_COMMANDS = {
    "java, G1": (
        ["java", "-XX:+UseG1GC", "-Xmx2g", "-Xms32m", "-XX:MaxHeapFreeRatio=10"]
        + ["-XX:MinHeapFreeRatio=5", str(_FOREIGN / "Churn.java")]
    ),
    "go": ["go", "run", str(_FOREIGN / "churn.go")],
}
WAYS = (PLAIN, MODULE)


class Others:
    """See `Part`."""

    name = "others"
    description = (
        "empty page tables of heaps of 1 GiB of other allocators, 1 object in 100,000 kept, and "
        "what reclaim by pid frees of them"
    )
    guest = Guest(icount=False, cpus=2, memory="4G")
