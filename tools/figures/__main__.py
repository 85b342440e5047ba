#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write the figures in README.md and docs/ anew, from the stored results.

The results of experiments are in evidence/experiments/, those of proofs in evidence/proofs/.
In a page, figures stand between two marks, and the first mark says which figures:

    <!-- figures: table series-50g tebibyte 6.12 -->     results as `experiment run` prints them
    <!-- figures: savings 7.3 -->                        the empty and the freed tables by workload
    <!-- figures: part reclaim-cost/instructions 7.3 --> one experiment, on a kernel or on `host`
    <!-- figures: extrapolation 7.3 -->                  what freeing 110 GB of tables would take
    <!-- figures: growth tebibyte-empty 7.3 -->          the growth of one workload with its size
    <!-- figures: designs -->                            the table of all methods
    <!-- figures: proofs -->                             what the proofs of full length found
    <!-- figures: mutations -->                          what reported that a protection was off
    <!-- /figures -->

With --check nothing is written, and the exit code is 1 if something would be.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from of_experiments import (
    RESULTS,
    Unknown,
    as_designs,
    as_extrapolation,
    as_growth,
    as_part,
    as_printed,
    as_savings,
)
from of_proofs import as_mutations, as_proofs
from pictures import pictures

from experiments import document as documents
from experiments.document import Document

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(<!-- figures: (.+?) -->\n).*?(<!-- /figures -->)", re.DOTALL)


def main() -> int:
    """Write or check the figures and the pictures, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    checks = parser.parse_args().check
    stored = documents.read_all(RESULTS)
    stale = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        fresh = renewed(text, stored)
        if fresh != text:
            stale.append(page)
            if not checks:
                page.write_text(fresh, encoding="utf-8")
    for picture in pictures(stored):
        if not picture.is_fresh:
            stale.append(picture.path)
            if not checks:
                picture.write()
    for path in stale:
        sys.stderr.write(f"{'stale' if checks else 'written'}: {path.relative_to(ROOT)}\n")
    return 1 if stale and checks else 0


def renewed(text: str, stored: Sequence[Document]) -> str:
    """Return the text of a page, with new figures between its marks."""

    def block(match: re.Match[str]) -> str:
        kind, *arguments = match[2].split()
        return f"{match[1]}{KINDS[kind](stored, *arguments)}\n{match[3]}"

    return BLOCK.sub(block, text)


KINDS: dict[str, Callable[..., str]] = {
    "extrapolation": as_extrapolation,
    "designs": as_designs,
    "mutations": as_mutations,
    "proofs": as_proofs,
    "table": as_printed,
    "savings": as_savings,
    "growth": as_growth,
    "part": as_part,
}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unknown as missing:
        sys.exit(f"{missing}: run it there, with --out {RESULTS}")
