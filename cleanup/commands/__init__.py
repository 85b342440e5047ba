# SPDX-License-Identifier: MIT
"""The command `pgtable-cleanup`, which finds and imports the module of the verb it is given."""

from pkgutil import resolve_name
from typing import IO, Any

import click

from cleanup.commands._output import PROGRAM, print_failure
from cleanup.errors import CleanupError

# --help lists the verbs in this order, in which a new user needs them.
VERBS = {
    "features": "features:features",
    "scan": "_targets:scan",
    "reclaim": "_targets:reclaim",
    "exec": "exec:exec_",
    "lab": "lab:lab",
    "experiment": "experiment:experiment",
}


class Failure(click.ClickException):
    """An expected failure, shown behind the program's name, as Unix tools do."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message, on stderr unless told otherwise."""
        click.echo(f"{PROGRAM}: {self.format_message()}", err=file is None, file=file)


class Verbs(click.Group):
    """A group that imports a verb on demand, so that no verb waits for the imports of another."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        """Return the names of the verbs, in the order of --help."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the verb's command, or None for an unknown one."""
        if cmd_name not in VERBS:
            return None
        try:
            command: click.Command = resolve_name(f"{__name__}.{VERBS[cmd_name]}")
        except ImportError as error:
            if cmd_name != "experiment":
                raise
            return _without_experiments(error)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments for `invoke`, which looks for --json in those that can't be parsed."""
        ctx.obj = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 -- click's signature
        """Run the verb. An expected failure becomes a message, and under --json a document."""
        try:
            return super().invoke(ctx)
        except (CleanupError, click.ClickException) as error:
            print_failure(ctx, ctx.obj, error)
            if isinstance(error, CleanupError):
                raise Failure(str(error)) from error
            raise


def _without_experiments(error: ImportError) -> click.Command:
    """Return a stand-in for `experiment` that says what it lacks, and how to get it."""
    missing = (error.name or "").partition(".")[0]
    if missing in ("", "allocator_shim", "cleanup"):
        raise error
    message = f"the experiments need {missing}"
    if missing == "experiments":
        message = "the experiments come with a checkout of pgtable-cleanup"
    hint = "run `make build` in a checkout, and `.venv/bin/pgtable-cleanup experiment` there"

    # The stand-in takes no --help, so that any arguments get the same answer.
    @click.command(
        "experiment",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
        help=f"Measure what page tables cost; {message}.",
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def experiment(arguments: tuple[str, ...]) -> None:  # noqa: ARG001 -- all get one answer
        raise CleanupError(message, hint=hint)

    return experiment


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=PROGRAM, prog_name=PROGRAM)
def main() -> None:
    """Give back the memory of empty page tables."""
