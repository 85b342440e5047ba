# SPDX-License-Identifier: MIT
"""Tests that the module's files call each other in one direction only."""

import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

KMOD = Path(__file__).parents[2] / "kmod"
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
# A definition begins in the first column, and its argument list is followed by a body.
DEFINITION = re.compile(r"^(?!#)\w[^;{}()]*?\b(pgtc_\w+)\([^;{}]*\)\s*\{", re.MULTILINE)
MACRO = re.compile(r"^#define (PGTC_\w+)\(", re.MULTILINE)
USE = re.compile(r"\b(pgtc_\w+|PGTC_\w+)\(")


def calls(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return, for each part of the module, the parts whose functions and macros it calls.

    A part is a .c file with its header; `sources` are the texts of such files, by path.
    """
    home = {}
    uses: dict[str, set[str]] = {}
    for path, source in sources.items():
        part = Path(path).stem
        text = COMMENT.sub("", source)
        home.update(dict.fromkeys([*DEFINITION.findall(text), *MACRO.findall(text)], part))
        uses.setdefault(part, set()).update(USE.findall(text))
    return {
        part: {home[name] for name in names if name in home} - {part}
        for part, names in uses.items()
    }


def order(sources: Mapping[str, str]) -> list[str]:
    """Return the parts, each after those that it calls. Raises CycleError if there is a circle."""
    return list(TopologicalSorter(calls(sources)).static_order())


def module() -> dict[str, str]:
    """Return the texts of the module's sources, by path."""
    paths = [path for path in KMOD.rglob("*.[ch]") if not path.name.endswith(".mod.c")]
    return {str(path.relative_to(KMOD)): path.read_text() for path in paths}


def test_no_circle_of_calls() -> None:
    found = order(module())
    assert found[-1] == "device", "the ioctl is what calls all others"


def test_the_calls_are_seen() -> None:
    found = calls(module())
    assert found["run"] >= {"scan", "reclaim", "hold"}
    assert found["unexported"] == {"symbols"}


def test_a_circle_through_a_macro_is_seen() -> None:
    sources = {
        "a.c": "int pgtc_one(void)\n{\n\treturn PGTC_TWO(3);\n}\n",
        "b.h": "int pgtc_two(int number);\n#define PGTC_TWO(number) pgtc_two(number)\n",
        "b.c": "int pgtc_two(int number)\n{\n\t/* not pgtc_two() */\n\treturn pgtc_one();\n}\n",
    }
    assert calls(sources) == {"a": {"b"}, "b": {"a"}}
    with pytest.raises(CycleError):
        order(sources)
