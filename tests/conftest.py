# SPDX-License-Identifier: MIT
"""Setup of all tests: each one is marked by its tier, which is its directory."""

import os
import signal
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent

pytest_plugins = ("storm",)

# Background jobs ignore SIGINT, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the storms on the preload library."""
    parser.addoption("--storm-seconds", type=int, default=8, help="how long each storm lasts")
    parser.addoption("--storm-seed", type=int, default=1, help="what each storm draws from")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test by its tier."""
    for item in items:
        tier = item.path.relative_to(TESTS).parts[0]
        item.add_marker(tier)
        if tier in ("guest", "proof") and "PGTABLE_CLEANUP_LAB" not in os.environ:
            raise pytest.UsageError(f"tests/{tier} needs a guest of the lab: make help")
