# SPDX-License-Identifier: MIT
"""Options and fixtures of the proofs that pytest runs: length, seed, and counts to be kept."""

import secrets
import time
from collections.abc import Callable, Iterator

import pytest

from guest.conftest import clean_log
from proof import results

__all__ = ["clean_log"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say how long a proof runs, and from which seed."""
    group = parser.getgroup("proofs")
    group.addoption("--calls", type=int, default=10_000, help="ioctls that each fuzzer makes")
    group.addoption("--seed", type=int, help="repeat a run; a new one by default")


@pytest.fixture
def calls(request: pytest.FixtureRequest) -> int:
    """Return how many calls a fuzzer is to make."""
    return int(request.config.getoption("--calls"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Return the seed of all that is random; pytest shows it if the test fails."""
    given = request.config.getoption("--seed")
    chosen = secrets.randbits(32) if given is None else int(given)
    request.node.add_report_section("setup", "seed", f"--seed {chosen}")
    return chosen


Record = Callable[..., None]


@pytest.fixture
def record(request: pytest.FixtureRequest, seed: int) -> Iterator[Record]:
    """Yield a function that takes a fuzzer's figures, which are kept after the test."""
    figures: results.Figures = {}
    begun = time.monotonic()
    yield figures.update
    if figures:
        name = request.node.name.removeprefix("test_").replace("[", "-").rstrip("]")
        seconds = round(time.monotonic() - begun, 3)
        results.keep(name, {"seed": seed, "seconds": seconds, **figures})
