# SPDX-License-Identifier: MIT
"""The command `pgtable-cleanup`: one file a verb."""

from importlib import import_module
from typing import IO, Any

import click

from cleanup.errors import CleanupError

PROGRAM = "pgtable-cleanup"
VERBS = ("features", "scan", "reclaim", "exec", "lab", "experiment")


class Failure(click.ClickException):
    """An expected failure, shown as the Unix tools do."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message, on stderr unless told otherwise."""
        click.echo(f"{PROGRAM}: {self.format_message()}", err=file is None, file=file)


def _is_extra(module: str | None) -> bool:
    """Whether a module is one of those that the installed command does without."""
    return module is not None and module.partition(".")[0] not in {"allocator_shim", "cleanup"}


def _absent(name: str, reason: str) -> click.Command:
    """A verb that fails with the reason, whatever it is given."""

    def fail(**_: object) -> None:
        raise Failure(reason)

    return click.Command(
        name,
        callback=fail,
        params=[click.Argument(["given"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True},
        help=f"Not available: {reason}.",
        short_help="Not available here: it runs in a checkout.",
    )


class Verbs(click.Group):
    """One verb a file, imported when it is called: one verb's libraries don't slow the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        """The verbs, in the order of a first acquaintance."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The verb's command, or None for an unknown one."""
        if cmd_name not in VERBS:
            return None
        try:
            verb = import_module(f"{__name__}.{cmd_name}")
        except ModuleNotFoundError as error:
            if cmd_name != "experiment" or not _is_extra(error.name):
                raise
            return _absent(
                cmd_name,
                f"experiments need {error.name}, which is not installed: they run in a checkout "
                "of pgtable-cleanup, after `make build` there",
            )
        # exec is a function of Python's.
        command: click.Command = getattr(verb, "exec_" if cmd_name == "exec" else cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 -- click's signature
        """Run the verb; an expected failure becomes a message and exit code 1."""
        try:
            return super().invoke(ctx)
        except CleanupError as error:
            raise Failure(str(error)) from error


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=PROGRAM, prog_name=PROGRAM)
def main() -> None:
    """Give back the memory of empty page tables."""
