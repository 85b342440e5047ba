# SPDX-License-Identifier: MIT
"""Tests that the commands, options, examples and code in the documentation exist."""

import ast
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from cleanup.commands import main
from documented import PAGES, ROOT, blocks, commands
from experiments import registry

EXAMPLES = ROOT / "docs/examples"
# The words that end a command in a shell.
ENDS = {"|", "||", "&&", ";", ">", "&"}


def arguments(text: str) -> list[str] | None:
    """Return the arguments if a line calls this project's command, and None otherwise."""
    words = shlex.split(text.replace("$pid", "1"), comments=True)
    while words[0] == "sudo" or "=" in words[0]:
        words.pop(0)
    if Path(words[0]).name != "pgtable-cleanup":
        return None
    end = next((i for i, word in enumerate(words) if word in ENDS), len(words))
    return words[1:end]


def typed() -> list[tuple[str, list[str]]]:
    """Return this project's commands in all pages: where each stands, and its arguments."""
    return [
        (f"{page.relative_to(ROOT)}: {command.text}", found)
        for page in PAGES
        for command in commands(page)
        if (found := arguments(command.text)) is not None
    ]


@pytest.mark.parametrize(("where", "words"), typed(), ids=lambda value: str(value)[:80])
def test_every_command_is_one_that_the_command_line_knows(where: str, words: list[str]) -> None:
    """A page must not use a verb, option or experiment that was removed or renamed."""
    command: click.Command = main
    rest = list(words)
    while isinstance(command, click.Group):
        name = rest.pop(0)
        if name == "--help":
            return
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"{where}: there is no {name}"
        command = found
    try:
        context = command.make_context(command.name, rest)
        if words[:2] == ["experiment", "run"]:
            registry.chosen(context.params["names"])
    except click.exceptions.Exit:
        assert {"--help", "--library"} & set(words)
    except (click.UsageError, ValueError) as error:
        pytest.fail(f"{where}: {error}")


def test_all_pages_together_show_every_verb() -> None:
    """The other tests would pass as well if no command were found in the pages."""
    assert {words[0] for _where, words in typed()} == set(main.list_commands(click.Context(main)))


def test_python_in_the_pages_is_python() -> None:
    found = [block for page in PAGES for block in blocks(page, "python")]
    assert len(found) >= 4
    for block in found:
        ast.parse(block)


def test_the_example_in_c_compiles_as_its_page_says() -> None:
    (compile_it,) = [
        command.text
        for command in commands(ROOT / "docs/howto/c.md")
        if command.text.startswith("gcc ")
    ]
    words = shlex.split(compile_it)
    at = words.index("-o")
    subprocess.run(
        [*words[:at], *words[at + 2 :], "-Wall", "-Werror", "-fsyntax-only"], cwd=ROOT, check=True
    )


def test_every_example_stands_in_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    shown = set(re.findall(r"examples/([\w.]+)", text))
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == shown
