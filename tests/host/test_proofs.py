# SPDX-License-Identifier: MIT
"""Tests that the module is proved as it is, and that one mutation is noticed still."""

import pytest

from cleanup import lab
from cleanup.lab.progress import Silent
from proof.mutations.bench import Bench, wanted
from proof.standing import Standing, cached_kernel, standings

# This mutation is noticed at its first run on every kernel, and leaves the guest alive.
REPLAYED = "recheck under the pte lock"
TRIES = 5


def test_the_module_is_proved_as_it_is() -> None:
    """Each kernel's short proofs are of this module, or of a kernel that Debian dropped."""
    missing = [str(one) for one in standings("short") if one.obstacle and can_be_had(one)]
    assert missing == [], "run `make prove`, and commit evidence/proofs"


def can_be_had(standing: Standing) -> bool:
    """Say whether the kernel of a proof is here, or is still served by Debian."""
    if standing.line not in lab.SOURCES:
        return True
    try:
        lab.get_kernel(standing.line)
    except lab.KernelNotServed:
        return False
    return True


def test_a_mutation_is_noticed() -> None:
    """Replay one mutation: the module passes its scenario, and fails it without the protection."""
    kernel = cached_kernel(lab.DEFAULT, "debug")
    if kernel is None:
        pytest.skip(f"no debug kernel {lab.DEFAULT} is cached: make prove builds it")
    mutations = wanted(lab.DEFAULT, REPLAYED)
    assert [one.name for one in mutations] == [REPLAYED]
    bench = Bench(lab.DEFAULT, kernel, TRIES, Silent())
    (verdict,) = bench.judge_all(mutations, full=False)
    assert verdict["passed_unmutated"], verdict["report"]
    assert verdict["caught"], verdict["report"]
