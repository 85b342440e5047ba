# SPDX-License-Identifier: MIT
"""The options that say what is measured, for the commands that run experiments."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from cleanup.commands._params import size_in
from cleanup.lab import DEFAULT, SOURCES
from experiments.phases import GRANULARITIES, METHODS

Function = TypeVar("Function", bound=Callable[..., Any])

# Parses the size of the memory to map.
size = size_in(2 << 20, "one page table maps 2 MiB")


# Adds --kernel as the parameter `kernels`.
kernel_option = click.option(
    "--kernel",
    "kernels",
    multiple=True,
    metavar=f"{'|'.join(SOURCES)}|PATH",
    help=f"Kernel of the lab's guest, {DEFAULT} by default; several times for several.",
)
# Adds --granularity as the parameter `granularities`.
granularity_option = click.option(
    "--granularity",
    "granularities",
    multiple=True,
    type=click.Choice(list(GRANULARITIES)),
    help="Size of each release call; several times for several.",
)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0, max=2**64 - 1), default=1, show_default=True
)


def method_option(default: str) -> Callable[[Function], Function]:
    """Return a decorator that adds --method and, hidden, its former name --backend."""

    def add(function: Function) -> Function:
        choices = click.Choice(METHODS)
        old = click.option("--backend", "backends", multiple=True, type=choices, hidden=True)
        new = click.option(
            "--method",
            "methods",
            multiple=True,
            type=choices,
            help=f"Several times for several; by default {default}.",
        )
        return new(old(function))

    return add


def out_option(default: str) -> Callable[[Function], Function]:
    """Return a decorator that adds --out, a directory that need not exist yet."""
    return click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        default=default,
        show_default=True,
        help="Directory for what was measured, a JSON file each, and for pictures.",
    )
