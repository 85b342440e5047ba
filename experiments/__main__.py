# SPDX-License-Identifier: MIT
"""Measures one part on this machine; the host starts this program in a guest.

    python -P -m experiments PART SCALE

SCALE is a Scale in JSON; the document goes to standard output.
"""

import json
import sys

from experiments import document, registry
from experiments.part import Scale


def main(name: str, scale: str) -> None:
    """Print the document of a part."""
    part = registry.find(name)
    if part is None:
        sys.exit(f"no experiment is called {name!r}")
    asked = Scale.from_json(json.loads(scale), lambda said: print(said, file=sys.stderr))  # noqa: T201
    json.dump(document.measure(part, asked), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
