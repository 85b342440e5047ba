# SPDX-License-Identifier: MIT
"""How a command in a guest hands its figures to the proof that runs it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

Figures = dict[str, object]


def keep(name: str, figures: Mapping[str, object]) -> None:
    """Write figures for the proof that runs this command, or nothing if no proof does."""
    results = os.environ.get("PGTABLE_CLEANUP_RESULTS")
    if results:
        (Path(results) / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
