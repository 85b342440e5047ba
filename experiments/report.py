# SPDX-License-Identifier: MIT
"""The report: one HTML file that needs no other."""

import base64
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from cleanup.experiments import plot
from cleanup.experiments.cost import plots
from cleanup.experiments.cost.show import claim_text, sections
from cleanup.experiments.document import AnyDocument, CostDocument, Document, is_cost
from cleanup.experiments.summary import seconds_text, size_text, summaries
from cleanup.experiments.verdict import verdicts
from cleanup.experiments.workload import NO_RELEASE, PHASES


def write_all(documents: Sequence[AnyDocument], out: Path) -> list[Path]:
    """Draw the plots of all documents and write report.html; return the files written."""
    costs = [document for document in documents if is_cost(document)]
    workloads = [document for document in documents if not is_cost(document)]
    groups = [list(group) for _, group in groupby(workloads, lambda one: one["experiment"])]
    pictures = {group[0]["experiment"]: plot.draw(group, out) for group in groups}
    cost_pictures = plots.draw_all(costs, out)
    report = out / "report.html"
    report.write_text(render(groups, pictures, costs, cost_pictures), encoding="utf-8")
    return [
        *(path for paths in pictures.values() for path in paths),
        *cost_pictures.values(),
        report,
    ]


def render(
    groups: Sequence[Sequence[Document]],
    pictures: dict[str, list[Path]],
    costs: Sequence[CostDocument],
    cost_pictures: dict[str, Path],
) -> str:
    """The report on documents grouped by experiment, and of costs, with their pictures inside."""
    environment = Environment(
        loader=PackageLoader("cleanup.experiments", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        size=size_text, seconds=seconds_text, data_uri=_data_uri, claim=claim_text
    )
    documents = [document for group in groups for document in group]
    return environment.get_template("report.html.j2").render(
        groups=groups,
        documents=documents,
        costs=costs,
        everything=[*documents, *costs],
        pictures=pictures,
        cost_pictures=cost_pictures,
        sections=sections,
        verdicts=verdicts(documents),
        summaries=summaries,
        phases=PHASES,
        no_release=NO_RELEASE,
    )


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
