# SPDX-License-Identifier: MIT
"""All proofs, on all kernels, and one page that says what came of them.

    make proof

Each proof is a target of the Makefile.  One that passed already, of this commit, is not run again;
a proof that fails does not keep the others from running.  Ctrl-C ends it: what has passed is kept.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cleanup import lab
from cleanup.experiments.provenance import commit
from proof.results import replace

RESULTS = Path("results")
STATE = RESULTS / "proof.json"
PAGE = RESULTS / "proof.html"
# By how long they take, the shortest first.
EVERYWHERE = ("storms", "upstream", "fuzz", "zeros", "mutations")
TARGETS = (
    *(f"{proof}-{kernel}" for proof in EVERYWHERE for kernel in lab.SOURCES),
    "selftests-6.12",
)
FAILED = 2
# Of a document: what stands in columns of its own, or is too long for the page.
NO_FIGURES = ("proof", "commit", "kernel", "seed", "seconds")

State = dict[str, dict[str, Any]]


@click.command()
@click.argument("targets", nargs=-1, type=click.Choice(TARGETS), metavar="[TARGET]...")
@click.option("--again", is_flag=True, help="Run those that passed already, too.")
def main(targets: Sequence[str], again: bool) -> None:
    """See the module."""
    state = _state()
    wanted = targets or TARGETS
    for number, target in enumerate(wanted, 1):
        if not again and _passed(state.get(target)):
            click.echo(f"{target}: passed already", err=True)
            continue
        click.echo(f"{target} ({number} of {len(wanted)}) ...", err=True)
        begun = time.monotonic()
        code = subprocess.run(["make", "--no-print-directory", target], check=False).returncode
        state[target] = {
            "commit": commit(),
            "passed": code == 0,
            "seconds": round(time.monotonic() - begun, 1),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        replace(STATE, state)
        PAGE.write_text(page(state, _documents(), _mutations()))
    PAGE.write_text(page(state, _documents(), _mutations()))
    failed = [target for target in wanted if not _passed(state.get(target))]
    click.echo(f"{len(wanted) - len(failed)} of {len(wanted)} proofs passed: {PAGE}", err=True)
    if failed:
        click.echo(f"failed: {', '.join(failed)}", err=True)
        sys.exit(FAILED)


def page(
    state: State, documents: Sequence[Mapping[str, Any]], mutations: Sequence[Mapping[str, Any]]
) -> str:
    """The summary, as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        targets=[(target, state.get(target)) for target in TARGETS],
        current=commit(),
        documents=[(one, _figures(one)) for one in documents],
        mutations=mutations,
    )


def _figures(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " "), _text(value))
        for name, value in document.items()
        if name not in NO_FIGURES
    ]


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    if isinstance(value, list):
        return f"{len(value)}" if value else "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _passed(known: Mapping[str, Any] | None) -> bool:
    return known is not None and known["passed"] and known["commit"] == commit()


def _state() -> State:
    found: State = json.loads(STATE.read_text()) if STATE.exists() else {}
    return found


def _documents() -> list[dict[str, Any]]:
    read = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    return [one for one in read if "proof" in one]


def _mutations() -> list[dict[str, Any]]:
    path = RESULTS / "mutations.json"
    found: list[dict[str, Any]] = json.loads(path.read_text())["mutations"] if path.exists() else []
    return found


if __name__ == "__main__":
    main.main(prog_name="proof")
