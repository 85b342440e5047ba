# SPDX-License-Identifier: MIT
"""A document of a suite for people: on the terminal and in the report."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.document import AnyDocument, SuiteDocument, is_suite
from experiments.suite.part import Claim, Row
from experiments.suite.registry import SUITES


@dataclass(frozen=True, slots=True)
class Section:
    """One part's results on one kernel."""

    name: str
    description: str
    rows: Sequence[Row]
    claims: Sequence[Claim]


def is_known(document: AnyDocument) -> bool:
    """Whether it can be shown: a stored one may be of a suite that is gone."""
    return not is_suite(document) or document["experiment"] in SUITES


def sections(document: SuiteDocument) -> list[Section]:
    """One for each part that measured something and is still known, in order of their names."""
    return [
        Section(
            name,
            part.description,
            part.rows(document["parts"][name]),
            document["parts"][name].get("claims", ()),
        )
        for name, part in SUITES[document["experiment"]].parts().items()
        if name in document["parts"]
    ]


def claim_text(claim: Claim) -> str:
    """`met: what it says: 32, limit 50`."""
    return (
        f"{'met' if claim['met'] else 'MISSED'}: {claim['claim']}: "
        f"{_figure(claim['value'])}, limit {_figure(claim['limit'])}"
    )


def _figure(value: float) -> str:
    """Whole where it is large, else by as many digits as tell it from a limit beside it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.5g}"
