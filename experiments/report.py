# SPDX-License-Identifier: MIT
"""The report: one HTML file that needs no other."""

import base64
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from experiments import plot, savings
from experiments.document import AnyDocument, Document, SuiteDocument, is_suite
from experiments.suite import plots
from experiments.suite.registry import SUITES
from experiments.suite.show import claim_text, is_known, sections
from experiments.summary import seconds_text, size_text, summaries
from experiments.verdict import verdicts
from experiments.workload import NO_RELEASE, PHASES


def write_all(documents: Sequence[AnyDocument], out: Path) -> list[Path]:
    """Draw the plots of all documents and write report.html; return the files written."""
    suites = _grouped([one for one in documents if is_suite(one) and is_known(one)])
    groups = _grouped([document for document in documents if not is_suite(document)])
    pictures = {group[0]["experiment"]: plot.draw(group, out) for group in groups}
    of_parts = {group[0]["experiment"]: plots.draw_all(group, out) for group in suites}
    saved = savings.on_kernels(
        [*(one for group in groups for one in group), *(one for group in suites for one in group)]
    )
    of_savings = savings.draw_all(saved, out)
    report = out / "report.html"
    report.write_text(
        render(groups, pictures, suites, of_parts, list(zip(saved, of_savings, strict=True))),
        encoding="utf-8",
    )
    return [
        *(path for paths in pictures.values() for path in paths),
        *(path for paths in of_parts.values() for path in paths.values()),
        *of_savings,
        report,
    ]


_D = TypeVar("_D", Document, SuiteDocument)


def _grouped(documents: Sequence[_D]) -> list[list[_D]]:
    """Those of one experiment together."""
    return [list(group) for _, group in groupby(documents, lambda one: one["experiment"])]


def render(
    groups: Sequence[Sequence[Document]],
    pictures: dict[str, list[Path]],
    suites: Sequence[Sequence[SuiteDocument]],
    of_parts: dict[str, dict[str, Path]],
    saved: Sequence[tuple[savings.OnKernel, Path]],
) -> str:
    """The report on documents grouped by experiment, with their pictures inside."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
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
        suites=suites,
        everything=[*documents, *(document for group in suites for document in group)],
        pictures=pictures,
        of_parts=of_parts,
        known=SUITES,
        sections=sections,
        saved=saved,
        savings=savings,
        verdicts=verdicts(documents),
        summaries=summaries,
        phases=PHASES,
        no_release=NO_RELEASE,
    )


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
