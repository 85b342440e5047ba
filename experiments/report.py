# SPDX-License-Identifier: MIT
"""The report: one HTML file that needs no other."""

import base64
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from experiments import registry, savings
from experiments.document import Document, measured_of
from experiments.part import Group
from experiments.table import notes, table

_HERE = Path(__file__).parent


def write_all(documents: Sequence[Document], out: Path) -> list[Path]:
    """Draw the pictures of all documents and write report.html.  Returns the files written."""
    measured = [one for one in documents if one["measured"] is not None]
    pictures = {name: draw(group, out) for name, group in _by_part(measured).items()}
    saved = savings.on_kernels(measured)
    of_savings = savings.draw_all(saved, out)
    report = out / "report.html"
    report.write_text(
        render(measured, pictures, list(zip(saved, of_savings, strict=True))), encoding="utf-8"
    )
    return [*(path for paths in pictures.values() for path in paths), *of_savings, report]


def draw(documents: Sequence[Document], out: Path) -> list[Path]:
    """Draw the documents of one part, one a kernel, into PNG files."""
    part, _ = measured_of(documents[0])
    drawn = []
    for suffix, figure in part.draw(documents).items():
        name = "-".join([part.name.replace("/", "-"), *filter(None, [suffix])])
        drawn.append(out / f"{name}.png")
        figure.savefig(drawn[-1], dpi=150)
    return drawn


def _by_part(documents: Sequence[Document]) -> dict[str, list[Document]]:
    return {name: list(group) for name, group in groupby(documents, lambda one: one["part"])}


def render(
    documents: Sequence[Document],
    pictures: dict[str, list[Path]],
    saved: Sequence[tuple[savings.OnKernel, Path]],
) -> str:
    """Return the report on documents that come part by part, with their pictures inside."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    parts = _by_part(documents)
    groups = [
        (group, {name: part for name, part in parts.items() if group.has(name)})
        for group in registry.groups()
    ]
    return environment.get_template("report.html.j2").render(
        groups=[(group, parts, _text(group)) for group, parts in groups if parts],
        documents=documents,
        tables=[(one, table(one)) for one in documents],
        notes=notes(documents),
        pictures=pictures,
        saved=saved,
        savings=savings,
        table=table,
    )


def _text(group: Group) -> str:
    """Return the name of the template that says how a group's figures come about."""
    return str(registry.directory(group).relative_to(_HERE) / "report.html.j2")


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
