# SPDX-License-Identifier: MIT
"""The figures of a proof, as a document."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments import provenance

Figures = dict[str, object]


def document(
    proof: str, seed: int, begun: float, figures: Figures, *, kernel: str | None = None
) -> Figures:
    """Figures with what they belong to; `begun` by the monotonic clock, the running kernel's."""
    return {
        "proof": proof,
        "commit": provenance.commit(),
        "kernel": kernel or os.uname().release,
        "seed": seed,
        "seconds": round(time.monotonic() - begun, 3),
        **figures,
    }


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Who else wants to change that file waits: proofs of two kernels may run side by side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def replace(path: Path, content: object) -> None:
    """Write JSON to a file that who is interrupted leaves as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=1) + "\n")
    new.rename(path)


def keep(made: Figures) -> None:
    """Write a document to PGTABLE_CLEANUP_RESULTS, if that is set."""
    results = os.environ.get("PGTABLE_CLEANUP_RESULTS")
    if results:
        release = os.uname().release
        series = ".".join(release.split(".")[:2])
        build = "-kcsan" if "-kcsan-" in release else ""
        replace(Path(results) / f"{made['proof']}-{series}{build}.json", made)
