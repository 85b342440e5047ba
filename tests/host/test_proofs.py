# SPDX-License-Identifier: MIT
"""Tests that the stored proofs are of today's module, and that a mutation is still noticed."""

import pytest

from cleanup import lab
from cleanup.lab.progress import Silent
from proof.mutations.bench import Bench, wanted
from proof.standing import Standing, cached_kernel, standings

# This mutation is noticed at its first run on every kernel, and leaves the guest alive.
REPLAYED = "recheck under the pte lock"
TRIES = 5


def test_the_module_is_proved_as_it_is() -> None:
    """Each short proof is of today's module, except on kernels that Debian has dropped."""
    missing = [str(one) for one in standings("short") if one.obstacle and can_be_had(one)]
    assert missing == [], "run `make prove`, and commit evidence/proofs"


def can_be_had(standing: Standing) -> bool:
    """Say whether the lab can get the kernel of a proof, which Debian may have dropped."""
    try:
        lab.get_kernel(standing.line)
    except lab.KernelNotServed:
        return False
    return True


def test_a_mutation_is_noticed() -> None:
    """Play a mutation's scenario: the module passes it, and the mutated module fails it."""
    cached = ((line, cached_kernel(line, "debug")) for line in (lab.DEFAULT, *lab.SOURCES))
    line, kernel = next((one for one in cached if one[1]), (lab.DEFAULT, None))
    if kernel is None:
        pytest.skip("no debug kernel is cached: make prove builds them")
    mutations = wanted(line, REPLAYED)
    assert [one.name for one in mutations] == [REPLAYED]
    bench = Bench(line, kernel, TRIES, Silent())
    (verdict,) = bench.judge_all(mutations, full=False)
    assert verdict["passed_unmutated"], verdict["report"]
    assert verdict["caught"], verdict["report"]
