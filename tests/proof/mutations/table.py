# SPDX-License-Identifier: MIT
"""The table of docs/mutations.md, made of verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

from proof.mutations.catalog import ALL, MUTATIONS

HEAD = """\
| protection | kernel | caught | the report that caught it |
|---|---|---|---|
"""


def markdown(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Return verdicts as a table, with lines also for kernels where a protection is not needed."""
    rows = []
    for mutation in MUTATIONS:
        for kernel in ALL:
            if kernel not in mutation.kernels:
                rows.append((mutation.name, kernel, "does not matter", mutation.elsewhere))
            rows += [
                (
                    mutation.name,
                    verdict["kernel"],
                    f"{verdict['caught_runs']} of {verdict['runs']}",
                    f"`{verdict['report'].replace('|', '¦')}`",
                )
                for verdict in verdicts
                if verdict["name"] == mutation.name and verdict["kernel"].startswith(f"{kernel}.")
            ]
    return HEAD + "\n".join(f"| {' | '.join(row)} |" for row in rows)
