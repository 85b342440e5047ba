# SPDX-License-Identifier: MIT
"""What the commands that run experiments take alike."""

import re

import click

DEFAULT_KERNEL = "6.12"


class Size(click.ParamType[int]):
    """A size such as 64g, a whole number of 2 MiB."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The size in bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+)([mgt])(?:ib)?", str(value).lower())
        size = int(match[1]) << {"m": 20, "g": 30, "t": 40}[match[2]] if match else 0
        if size <= 0 or size % (2 << 20):
            self.fail(f"{value!r} is no size: give a multiple of 2m, such as 64g", param, ctx)
        return size
