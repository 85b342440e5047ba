# SPDX-License-Identifier: MIT
"""Tests that one mutation of the module is noticed; `make prove` tries them all."""

import pytest

from cleanup.lab import DEFAULT
from cleanup.lab.progress import Silent
from proof.mutations.bench import Bench, wanted
from proof.standing import cached_kernel

# This mutation is noticed at its first run on every kernel, and leaves the guest alive.
REPLAYED = "recheck under the pte lock"
TRIES = 5


def test_a_mutation_is_noticed() -> None:
    """Replay one mutation: the module passes its scenario, and fails it without the protection."""
    kernel = cached_kernel(DEFAULT, "debug")
    if kernel is None:
        pytest.skip(f"no debug kernel {DEFAULT} is cached: make prove builds it")
    mutations = wanted(DEFAULT, REPLAYED)
    assert [one.name for one in mutations] == [REPLAYED]
    bench = Bench(DEFAULT, kernel, TRIES, Silent())
    (verdict,) = bench.judge_all(mutations, full=False)
    assert verdict["passed_unmutated"], verdict["report"]
    assert verdict["caught"], verdict["report"]
