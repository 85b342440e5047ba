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


class Duration(click.ParamType[int]):
    """A duration in nanoseconds, written as `cleanup.units.parse_duration` has it: 500us."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the duration in nanoseconds."""
        if isinstance(value, int):
            return value
        try:
            duration = units.parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not duration:
            self.fail(f"{value}: a duration is at least 1ns", param, ctx)
        return duration


class Pid(click.ParamType[int]):
    """The id of a process."""

    name = "pid"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the pid."""
        text = str(value)
        if text.isdecimal() and text.isascii() and int(text) > 0:
            return int(text)
        if text.lstrip("-").isdigit():
            hint = "a pid is 1 or more"
        else:
            hint = f"`pidof {shlex.quote(text)}` finds those of a program"
        return self.fail(f"{text!r} is no pid: {hint}", param, ctx)


class LevelNames(click.ParamType[tuple[str, ...]]):
    """Levels of the page-table tree by name, separated by commas."""

    name = "levels"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names."""
        levels = tuple(str(value).split(","))
        try:
            level_mask(levels)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return levels
