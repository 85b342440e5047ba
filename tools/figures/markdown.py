# SPDX-License-Identifier: MIT
"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table(
    headings: Sequence[str], alignment: Sequence[str], rows: Iterable[Sequence[str]]
) -> list[str]:
    """Return a table's lines; `alignment` has ``---`` or ``---:`` for each column."""
    return [f"| {' | '.join(row)} |" for row in (headings, alignment, *rows)]
