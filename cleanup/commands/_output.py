# SPDX-License-Identifier: MIT
"""Output of the commands: results go to standard output, all else to standard error.

--json makes standard output one JSON document, also where the command fails. -q leaves out notes
and progress; errors stay.
"""

import itertools
import json
from typing import Any

import click

from cleanup.errors import CleanupError

PROGRAM = "pgtable-cleanup"
# Keys of a click context's `meta`: whether --json was given, and whether its document is printed.
_JSON, _PRINTED = f"{__name__}.json", f"{__name__}.printed"


def _remember_json(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    # click shares `meta` between a verb and its group, which reads this when the verb fails.
    ctx.meta[_JSON] = value
    return value


# Adds --json as the parameter `as_json`. A failure then is a document, too.
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    callback=_remember_json,
    help="One JSON document on standard output, also where the command fails.",
)
# Adds -q as the parameter `quiet`.
quiet_option = click.option(
    "-q", "--quiet", is_flag=True, help="No progress and no notes on standard error; errors stay."
)


def print_failure(
    ctx: click.Context, arguments: list[str], error: CleanupError | click.ClickException
) -> None:
    """Print the document of a command that failed, if --json was given and none is printed yet.

    A report that is already printed says itself why the verb failed. Where the arguments can't be
    parsed, --json is looked for in `arguments` before any --: what follows is for another program.
    """
    wanted = isinstance(error, click.UsageError) and "--json" in itertools.takewhile(
        lambda argument: argument != "--", arguments
    )
    if ctx.meta.get(_JSON, wanted) and not ctx.meta.get(_PRINTED):
        print_document(error_document(error))


def print_document(content: Any) -> None:  # noqa: ANN401 -- JSON
    """Print the one JSON document of a command on standard output."""
    click.get_current_context().meta[_PRINTED] = True
    click.echo(json.dumps(content, indent=2))


def print_message(message: str) -> None:
    """Print a line on standard error, behind the program's name."""
    click.echo(f"{PROGRAM}: {message}", err=True)


def error_document(error: CleanupError | click.ClickException) -> dict[str, Any]:
    """Return the JSON document of a command that failed: its message, errno and hint."""
    if isinstance(error, CleanupError):
        return {"error": error.to_json()}
    hint = None
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"{error.ctx.command_path} --help"
    return {"error": {"message": error.format_message(), "errno": None, "hint": hint}}
