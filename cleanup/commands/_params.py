# SPDX-License-Identifier: MIT
"""The kinds of values on the command line. Each refuses a wrong one and says how to write it."""

import shlex
from collections.abc import Callable

import click

from cleanup import units
from cleanup.cleaning import level_mask


def size_in(unit: int, because: str) -> Callable[[str], int]:
    """Return what takes sizes that are multiples of `unit`; `because` says why no others.

    They are written as `cleanup.units.parse_size` has it: 64g; a bare number is bytes.
    """

    def size(text: str) -> int:
        try:
            number = units.parse_size(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
        if number and not number % unit:
            return number
        shown = f"{text} ({number} bytes)" if text.isdigit() else text
        wanted = f"a multiple of {units.format_size(unit)}, such as 64g"
        raise click.BadParameter(f"{shown}: {because}: give {wanted}")

    return size


def duration(text: str) -> int:
    """Return nanoseconds, written as `cleanup.units.parse_duration` has it: 500us."""
    try:
        nanoseconds = units.parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if not nanoseconds:
        raise click.BadParameter(f"{text}: a duration is at least 1ns")
    return nanoseconds


def pid(text: str) -> int:
    """Return the id of a process."""
    if text.isdecimal() and text.isascii() and int(text) > 0:
        return int(text)
    if text.lstrip("-").isdigit():
        hint = "a pid is 1 or more"
    else:
        hint = f"`pidof {shlex.quote(text)}` finds those of a program"
    raise click.BadParameter(f"{text!r} is no pid: {hint}")


def level_names(text: str) -> tuple[str, ...]:
    """Return levels of the page-table tree by name, which commas separate in the text."""
    levels = tuple(text.split(","))
    try:
        level_mask(levels)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return levels
