# SPDX-License-Identifier: MIT
"""docs/mutations.md, of the verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

from proof.mutations.catalog import ALL, MUTATIONS

HEAD = """\
# Mutations

Each protection of the module switched off alone, in a build made for this only, and the scenario
that notices. A verdict is of as many runs in a guest with a debug kernel as it says, with
seeds of their own; the module as it is passed every one of them.

| protection | kernel | caught | the report that caught it |
|---|---|---|---|
"""


def markdown(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """The table, with a line for each kernel on which a protection does not matter."""
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
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)
