# SPDX-License-Identifier: MIT
"""Measures parts on this machine; the host starts this program in a guest.

    python -P -m experiments SCALE PART...

SCALE is a Scale in JSON.  Each part's document is one line of standard output.
"""

import json
import sys

from experiments import document, registry
from experiments.part import Scale


def main(scale: str, *names: str) -> None:
    """Print the documents of parts, each as soon as it is measured."""
    asked = Scale.from_json(json.loads(scale), lambda said: print(said, file=sys.stderr))  # noqa: T201
    for name in names:
        part = registry.find(name)
        if part is None:
            sys.exit(f"no experiment is called {name!r}")
        print(json.dumps(document.measure(part, asked)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
