# SPDX-License-Identifier: MIT
"""How commands say things: results on standard output, all else on standard error.

--json makes standard output one JSON document, also where the command fails. -q leaves out notes
and progress; errors stay.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from cleanup.errors import CleanupError

PROGRAM = "pgtable-cleanup"
Function = TypeVar("Function", bound=Callable[..., Any])


def json_option(function: Function) -> Function:
    """Add --json as the parameter `as_json`. A failure then is a document, too."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,
        callback=_remember_json,
        help="One JSON document on standard output, also where the command fails.",
    )(function)


def quiet_option(function: Function) -> Function:
    """Add -q as the parameter `quiet`."""
    return click.option(
        "-q",
        "--quiet",
        is_flag=True,
        help="No progress and no notes on standard error; errors stay.",
    )(function)


def _remember_json(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    # The group that shows failures shares `meta` with the verb below it.
    ctx.meta[__name__] = value
    return value


def wants_json(ctx: click.Context, arguments: list[str]) -> bool:
    """Say whether a failure under this context is to be a document.

    The command line itself is looked at where it can't be parsed. What follows -- is not the
    command's.
    """
    if __name__ in ctx.meta:
        return bool(ctx.meta[__name__])
    return "--json" in arguments[: (*arguments, "--").index("--")]


def print_document(content: Any) -> None:  # noqa: ANN401 -- JSON
    """Print a JSON document on standard output."""
    click.echo(json.dumps(content, indent=2))


def print_message(message: str) -> None:
    """Print a line on standard error, as the Unix tools do."""
    click.echo(f"{PROGRAM}: {message}", err=True)


def error_document(error: CleanupError | click.ClickException) -> dict[str, Any]:
    """Return what --json shows of a command that failed: why, by which errno, and what to do."""
    if isinstance(error, CleanupError):
        return {"error": error.to_json()}
    hint = None
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"{error.ctx.command_path} --help"
    return {"error": {"message": error.format_message(), "errno": None, "hint": hint}}
