# SPDX-License-Identifier: MIT
"""Parsers of values on the command line. Each refuses a wrong value and says how to write it."""

import shlex
from collections.abc import Callable

import click

from cleanup import units
from cleanup.cleaning import level_mask


def size_in(unit: int, because: str) -> Callable[[str], int]:
    """Return a parser of sizes. It refuses all but multiples of `unit`; `because` says why.

    A size is written as `cleanup.units.parse_size` takes it, such as 64g; a bare number is bytes.
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
    """Parse a duration as `cleanup.units.parse_duration` does, such as 500us, to nanoseconds."""
    try:
        nanoseconds = units.parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if not nanoseconds:
        raise click.BadParameter(f"{text}: a duration is at least 1ns")
    return nanoseconds


def pid(text: str) -> int:
    """Parse the id of a process."""
    if text.isdecimal() and text.isascii() and int(text) > 0:
        return int(text)
    if text.lstrip("-").isdigit():
        hint = "a pid is 1 or more"
    else:
        hint = f"`pidof {shlex.quote(text)}` finds those of a program"
    raise click.BadParameter(f"{text!r} is no pid: {hint}")


def level_names(text: str) -> tuple[str, ...]:
    """Parse names of levels of the page-table tree, separated by commas."""
    levels = tuple(text.split(","))
    try:
        level_mask(levels)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return levels
