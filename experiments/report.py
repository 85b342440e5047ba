# SPDX-License-Identifier: MIT
"""The report: one HTML file that holds the tables and pictures of all experiments."""

import base64
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from matplotlib.figure import Figure

from experiments import registry, savings
from experiments.document import Document, measured_of
from experiments.part import Group, Row
from experiments.plot import save
from experiments.table import notes, table


def write_all(documents: Sequence[Document], out: Path) -> list[Path]:
    """Draw the pictures of all documents and write report.html.  Returns the files written."""
    measured = [one for one in documents if one["measured"] is not None]
    by_part = {name: list(some) for name, some in groupby(measured, lambda one: one["part"])}
    pictures = {name: save(_drawn(some), out) for name, some in by_part.items()}
    saved = savings.on_kernels(measured)
    of_savings = savings.draw_all(saved, out)
    grouped = [
        (group, {name: some for name, some in by_part.items() if group.has(name)}, _text(group))
        for group in registry.groups()
    ]
    report = out / "report.html"
    report.write_text(
        _template().render(
            groups=[one for one in grouped if one[1]],
            documents=measured,
            tables=[(one, table(one)) for one in measured],
            notes=notes(measured),
            pictures=pictures,
            saved=list(zip(saved, of_savings, strict=True)),
            savings=savings,
            table=table,
        ),
        encoding="utf-8",
    )
    return [*(path for paths in pictures.values() for path in paths), *of_savings, report]


def _drawn(documents: Sequence[Document]) -> dict[str, Figure]:
    """Return the pictures of one part by name; each document is of one kernel."""
    part, _ = measured_of(documents[0])
    name = part.name.replace("/", "-")
    return {
        f"{name}-{suffix}" if suffix else name: figure
        for suffix, figure in part.draw(documents).items()
    }


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": _data_uri, "origin": _origin, "savings_row": savings.row}
    return environment.get_template("report.html.j2")


def _text(group: Group) -> str:
    """Return the name of the template that says how a group's figures come about."""
    _, *package = group.package.removesuffix(".parts").split(".")
    return "/".join([*package, "report.html.j2"])


def _origin(document: Document) -> Row:
    """Return a row that says where a document's figures come from."""
    scale = ["quick" if document["scale"]["quick"] else "full"]
    for name, value in document["scale"].items():
        if value and name != "quick":
            scale.append(f"{name} {', '.join(value) if isinstance(value, list) else value}")
    return (
        document["part"],
        document["kernel"],
        document["accelerator"],
        document["commit"] or "not from a checkout",
        str(document["seed"]),
        "; ".join(scale),
    )


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
