# SPDX-License-Identifier: MIT
"""The command `pgtable-cleanup`: one file a verb."""

from typing import IO, Any

import click

from cleanup.errors import CleanupError

PROGRAM = "pgtable-cleanup"


class Failure(click.ClickException):
    """An expected failure, shown as the Unix tools do."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"{PROGRAM}: {self.format_message()}", err=file is None, file=file)


class Group(click.Group):
    """Turns expected failures into a message and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 -- click's own signature
        try:
            return super().invoke(ctx)
        except CleanupError as error:
            raise Failure(str(error)) from error


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=PROGRAM, prog_name=PROGRAM)
def main() -> None:
    """Give back the memory of empty page tables."""
