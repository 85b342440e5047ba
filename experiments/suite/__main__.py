# SPDX-License-Identifier: MIT
"""Measures parts of a suite on the machine it runs on: what the host starts in a guest."""

import json

import click

from experiments.suite.registry import SUITES
from experiments.suite.run import measure


@click.command()
@click.argument("suite", type=click.Choice(list(SUITES)))
@click.argument("names", metavar="PART...", nargs=-1, required=True)
@click.option("--quick", is_flag=True)
@click.option("--seed", type=int, default=1)
def main(suite: str, names: tuple[str, ...], quick: bool, seed: int) -> None:
    """Print the measurements of parts as one JSON document."""
    measured = measure(
        SUITES[suite],
        names,
        quick=quick,
        seed=seed,
        progress=lambda said: click.echo(said, err=True),
    )
    click.echo(json.dumps(measured))


if __name__ == "__main__":
    main()
