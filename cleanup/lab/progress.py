# SPDX-License-Identifier: MIT
"""Shows the progress of long steps: bars on a terminal, plain lines elsewhere, or nothing."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

Advance = Callable[[float], None]


class Progress(Protocol):
    """The interface of what shows the user the progress of long steps."""

    def step(self, text: str) -> AbstractContextManager[Advance]:
        """Show a step until the block ends; yield a function that takes the part done, 0 to 1."""
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def step(self, text: str) -> Iterator[Advance]:  # noqa: ARG002
        yield lambda _part: None


class Lines:
    """Prints a line on stderr as each step begins, and another when one that took long is done."""

    @contextmanager
    def step(self, text: str) -> Iterator[Advance]:
        start = time.monotonic()
        click.echo(f"{text} ...", err=True)
        yield lambda _part: None
        seconds = time.monotonic() - start
        if seconds >= 1:
            click.echo(f"{text}: done in {seconds:.1f} s", err=True)


class Bars:
    """Shows a bar or a spinner on the terminal until the step is done."""

    @contextmanager
    def step(self, text: str) -> Iterator[Advance]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
        )
        with RichProgress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(text, total=None)
            yield lambda part: bars.update(task, total=1.0, completed=part)


def on_stderr() -> Progress:
    """Return bars if this process's stderr is a terminal, else lines."""
    return Bars() if sys.stderr.isatty() else Lines()
