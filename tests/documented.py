# SPDX-License-Identifier: MIT
"""The commands and the code that README.md and docs/ tell their readers to type."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README, TUTORIAL = ROOT / "README.md", ROOT / "docs/tutorial.md"
PAGES = (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
# A generated block shows stored results: it is output that no reader types or checks.
GENERATED = re.compile(r"<!-- figures: .*?<!-- /figures -->", re.DOTALL)
BLOCK = re.compile(r"^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """A command as it is typed, and the output that the page shows below it.

    `as_root` is set where the prompt is "#".
    """

    text: str
    as_root: bool
    output: tuple[str, ...]


def blocks(page: Path, language: str) -> list[str]:
    """Return the texts of a page's code blocks in one language, except generated blocks."""
    text = GENERATED.sub("", page.read_text(encoding="utf-8"))
    return [found["text"] for found in BLOCK.finditer(text) if found["language"] == language]


def commands(page: Path) -> Iterator[Command]:
    """Yield the commands of a page's console blocks, in their order."""
    for block in blocks(page, "console"):
        typed = ""
        output: list[str] = []
        for line in [*block.splitlines(), "$ "]:
            if not line.startswith(("$ ", "# ")):
                output.append(line)
                continue
            if typed:
                yield Command(typed[2:], typed.startswith("# "), tuple(output))
            typed, output = line, []
