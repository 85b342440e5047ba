# SPDX-License-Identifier: MIT
"""Measures parts on the machine it runs on: what the host starts in a guest."""

import json

import click

from cleanup.experiments.cost.run import measure


@click.command()
@click.argument("names", metavar="PART...", nargs=-1, required=True)
@click.option("--quick", is_flag=True)
@click.option("--seed", type=int, default=1)
def main(names: tuple[str, ...], quick: bool, seed: int) -> None:
    """Print the measurements of parts as one JSON document."""
    measured = measure(
        names, quick=quick, seed=seed, progress=lambda said: click.echo(said, err=True)
    )
    click.echo(json.dumps(measured))


if __name__ == "__main__":
    main()
