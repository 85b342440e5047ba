# SPDX-License-Identifier: MIT
"""The figures of a proof, as a document."""

import json
import os
import time
from pathlib import Path

from cleanup.experiments import provenance

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


def keep(made: Figures) -> None:
    """Write a document to PGTABLE_CLEANUP_RESULTS, if that is set."""
    results = os.environ.get("PGTABLE_CLEANUP_RESULTS")
    if results:
        series = ".".join(os.uname().release.split(".")[:2])
        path = Path(results) / f"{made['proof']}-{series}.json"
        path.write_text(json.dumps(made, indent=1) + "\n")
