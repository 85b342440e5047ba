# SPDX-License-Identifier: MIT
"""Prove the module: python -m proof NAME --kernel K, or `all` for what was not proved yet.

A proof that passed is stored in evidence/proofs, with hashes of the module and of the proof.  While
these stay the same, `all` does not run it again.  Ctrl-C ends it; what has passed is kept.
"""

import secrets
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cleanup import lab
from cleanup.errors import CleanupError
from cleanup.lab.progress import Progress, on_stderr
from experiments.provenance import commit
from proof import evidence
from proof.evidence import STORED, Document, Scale
from proof.proofs import HOST, KERNELS, PROOFS, Proof
from proof.standing import standings
from proof.task import Figures, ProofFailed, ProofSkipped, Task

# Guests write here, and an interrupted proof goes on from what it finds here.
WORK = Path("build/proofs")
FAILED = 2
LINES = (*KERNELS, HOST)

_long = click.option("--long", "long_", is_flag=True, help="Take hours, not minutes.")
_stored = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=STORED,
    help="Store what passed there (default: evidence/proofs).",
)


@click.group()
def main() -> None:
    """Prove that the module breaks nothing, and that the tests would notice if it did."""


@main.command("all")
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(list(PROOFS)))
@click.option("--kernel", "lines", multiple=True, type=click.Choice(LINES), help="Default: all.")
@_long
@_stored
@click.option("--again", is_flag=True, help="Run what passed already, too.")
def all_command(
    names: Sequence[str], lines: Sequence[str], long_: bool, out: Path, again: bool
) -> None:
    """Run each proof on each kernel, or on this machine, unless it passed as things are."""
    scale: Scale = "long" if long_ else "short"
    failed = []
    for one in standings(scale, stored=out):
        if one.line not in (lines or LINES) or one.proof.name not in (names or PROOFS):
            continue
        _say(str(one))
        if one.obstacle is None and not again:
            continue
        begun = time.monotonic()
        try:
            prove(one.proof, one.line, scale, out=out)
        except (lab.KernelNotServed, ProofSkipped) as error:
            _say(f"skipped: {error}")
        except (ProofFailed, CleanupError) as error:
            failed.append(f"{one.proof.name} on {one.line}")
            _say(f"FAILED: {error}")
        _say(f"{one.proof.name} on {one.line}: {time.monotonic() - begun:.0f} s")
    if failed:
        _say(f"failed: {', '.join(failed)}")
        sys.exit(FAILED)


@main.command("standing")
@_long
@_stored
def standing_command(long_: bool, out: Path) -> None:
    """Say which stored proofs count for the module as it is; fail where one does not."""
    found = list(standings("long" if long_ else "short", stored=out))
    for one in found:
        click.echo(str(one))
    sys.exit(any(one.obstacle for one in found))


def prove(
    proof: Proof,
    line: str,
    scale: Scale,
    *,
    out: Path,
    seed: int | None = None,
    amount: int | None = None,
    only: str = "",
    hardware: dict[str, Any] | None = None,
) -> None:
    """Run a proof on a kernel, and store it if it passed and was complete.

    Raises ProofFailed if it did not pass, and LabError if it could not be run.
    """
    begun = time.monotonic()
    progress = on_stderr()
    about = proof.about(line, scale)
    task = Task(
        line=line,
        kernel=None if line == HOST else _kernel(line, proof.build_at(scale), progress),
        scale=scale,
        amount=proof.amounts[scale] if amount is None else amount,
        seed=secrets.randbits(32) if seed is None else seed,
        work=(WORK / scale / f"{proof.name}-{line}").resolve(),
        progress=progress,
        only=only,
        hardware=hardware or {},
    )
    complete = not only and not hardware and task.amount >= proof.amounts[scale]
    task = task.resumed(evidence.read(proof.name, line, scale, out) or {})
    outcome = proof.run(task)
    if not complete:
        _say("it passed; a part of a proof is not stored")
        return
    figures = _document(proof, task, begun, outcome.figures)
    document = {**figures, "module": about.module, "sources": about.sources}
    if proof.about(line, scale) != about:
        raise ProofFailed("the module or the proof was changed meanwhile")
    _say(f"stored: {evidence.store(document, evidence.trimmed(outcome.log), out)}")
    task.clear()


def _document(proof: Proof, task: Task, begun: float, figures: Figures) -> Document:
    kernel = task.kernel
    return {
        "proof": proof.name,
        "scale": task.scale,
        "line": task.line,
        "kernel": kernel.release if kernel else _own_release(),
        "configuration": evidence.configuration(kernel) if kernel else None,
        "commit": commit(),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": task.seed,
        "seconds": round(time.monotonic() - begun, 3),
        "amount": f"{task.amount} {proof.unit}",
        **figures,
    }


def _kernel(line: str, build: str | None, progress: Progress) -> lab.Kernel:
    if build is None:
        return lab.get_kernel(line, progress=progress)
    return lab.get_debug_kernel(line, build, progress=progress)


def _own_release() -> str:
    return Path("/proc/sys/kernel/osrelease").read_text().strip()


def _say(line: str) -> None:
    click.echo(f"proof: {line}", err=True)


def _command(proof: Proof) -> click.Command:
    """Make the command that runs one proof, with all flags that any proof may need."""

    @click.command(proof.name, help=f"{proof.description}", short_help=proof.description)
    @click.option("--kernel", "line", type=click.Choice(proof.kernels), required=True)
    @_long
    @_stored
    @click.option("--seed", type=int, help="Repeat a run; a new one by default.")
    @click.option("--amount", type=click.IntRange(1), help=f"So many {proof.unit}.")
    @click.option("--only", default="", help="Parts with this text in their names.")
    @click.option("--memory", help="Of the guest, such as 3G.")
    @click.option("--cpus", type=click.IntRange(1), help="Of the guest.")
    @click.option("--append", help="Arguments for the guest's kernel, in place of the proof's.")
    @click.option(
        "--icount", is_flag=True, default=None, help="The guest's clock counts instructions."
    )
    def command(
        line: str,
        long_: bool,
        out: Path,
        seed: int | None,
        amount: int | None,
        only: str,
        **hardware: Any,  # noqa: ANN401 -- fields of Machine
    ) -> None:
        scale: Scale = "long" if long_ or "short" not in proof.amounts else "short"
        given = {name: value for name, value in hardware.items() if value is not None}
        try:
            prove(proof, line, scale, out=out, seed=seed, amount=amount, only=only, hardware=given)
        except (ProofFailed, ProofSkipped) as error:
            raise click.ClickException(str(error)) from error

    return command


for each in PROOFS.values():
    main.add_command(_command(each))


if __name__ == "__main__":
    try:
        main.main(prog_name="proof")
    except CleanupError as error:
        sys.exit(f"proof: {error}")
