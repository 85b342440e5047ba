# SPDX-License-Identifier: MIT
"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table(
    headings: Sequence[str], alignment: Sequence[str], rows: Iterable[Sequence[str]]
) -> list[str]:
    """Its lines; of `alignment` there is ``---`` or ``---:`` for each column."""
    return [f"| {' | '.join(row)} |" for row in (headings, alignment, *rows)]
