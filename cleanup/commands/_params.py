# SPDX-License-Identifier: MIT
"""The kinds of values on the command line. Each refuses a wrong one and says how to write it."""

import shlex

import click

from cleanup import units
from cleanup.cleaning import level_mask


class Size(click.ParamType[int]):
    """A size in bytes, written as `cleanup.units.parse_size` has it: 64g; a bare number is bytes.

    `least` is the smallest size that makes sense, and a size has to be a multiple of `multiple_of`.
    `because` says why.
    """

    name = "size"

    def __init__(self, least: int = 1, because: str = "it is empty", multiple_of: int = 1) -> None:
        self.least = least
        self.because = because
        self.multiple_of = multiple_of

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the size in bytes."""
        try:
            size = value if isinstance(value, int) else units.parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if size >= self.least and not size % self.multiple_of:
            return size
        shown = f"{value} ({size} bytes)" if str(value).isdigit() else value
        wanted = f"{units.format_size(self.least)} or more"
        if self.multiple_of > 1:
            wanted = f"a multiple of {units.format_size(self.multiple_of)}, such as 64g"
        return self.fail(f"{shown}: {self.because}: give {wanted}", param, ctx)


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
