# SPDX-License-Identifier: MIT
"""All proofs, on all kernels, and one page that says what came of them.

    make proof

Each proof is a target of the Makefile.  One that passed already, with the module and the proof as
they are, is not run again; a proof that fails does not keep the others from running.  Ctrl-C ends
it: what has passed is kept.
"""

import hashlib
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
from experiments.provenance import commit
from proof.results import alone, replace

RESULTS = Path("evidence/proofs")
STATE = RESULTS / "proof.json"
PAGE = Path("build/proof.html")
# What a proof is made of, beside the module and the debug kernels' configurations; by how long they
# take, the shortest first.
EVERYWHERE = {
    "storms": ("storms", "modules/shadow", "modules/race"),
    "upstream": ("upstream.py", "guests.py", "scenarios"),
    "fuzz": ("fuzz",),
    "zeros": ("stale_zeros.py",),
    "mutations": ("mutations", "guests.py", "scenarios", "modules/delay", "modules/shadow"),
}
PROOFS = {
    **{f"{name}-{kernel}": parts for name, parts in EVERYWHERE.items() for kernel in lab.SOURCES},
    "races-7.3": EVERYWHERE["storms"],
    "selftests-6.12": ("selftests",),
}
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CODE = (".c", ".h", ".py", ".config")
FAILED = 2
# Of a document: what stands in columns of its own, or is too long for the page.
NO_FIGURES = ("proof", "commit", "kernel", "seed", "seconds")

State = dict[str, dict[str, Any]]


@click.command()
@click.argument("targets", nargs=-1, type=click.Choice(list(PROOFS)), metavar="[TARGET]...")
@click.option("--again", is_flag=True, help="Run those that passed already, too.")
def main(targets: Sequence[str], again: bool) -> None:
    """See the module."""
    state = _state()
    wanted = targets or tuple(PROOFS)
    for number, target in enumerate(wanted, 1):
        if not again and _passed(target, state):
            click.echo(f"{target}: passed already", err=True)
            continue
        click.echo(f"{target} ({number} of {len(wanted)}) ...", err=True)
        begun = time.monotonic()
        code = subprocess.run(["make", "--no-print-directory", target], check=False).returncode
        ended = {
            "commit": commit(),
            "made_of": made_of(target),
            "passed": code == 0,
            "seconds": round(time.monotonic() - begun, 1),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with alone(STATE):
            state = _state() | {target: ended}
            replace(STATE, state)
        PAGE.write_text(page(state, _documents(), _mutations()))
    PAGE.write_text(page(state, _documents(), _mutations()))
    failed = [target for target in wanted if not _passed(target, state)]
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
        targets=[(target, state.get(target), _passed(target, state)) for target in PROOFS],
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


def made_of(target: str) -> str:
    """A hash of the module and of the proof."""
    parts = [ROOT / "kmod", ROOT / "cleanup/lab/configs", *(HERE / part for part in PROOFS[target])]
    files = [file for part in parts for file in ([part] if part.is_file() else part.rglob("*"))]
    digest = hashlib.sha256()
    for file in sorted(files):
        if file.suffix in CODE and not file.name.endswith(".mod.c"):
            digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _passed(target: str, state: State) -> bool:
    known = state.get(target)
    return known is not None and known["passed"] and known["made_of"] == made_of(target)


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
