# SPDX-License-Identifier: MIT
"""Random arguments: every answer is one that the ABI documents, and no byte beside it is written.

`--seed` repeats a run.  A run makes `--calls` calls, or an eighth as many where another process
changes bytes meanwhile.
"""

from collections.abc import Iterator
from contextlib import ExitStack, nullcontext

import pytest

from proof.conftest import Record
from proof.fuzz.arguments import BATCH, FLIPPED_BATCH, Generator, Module, described, smallest

# On a busy host the guest's CPUs seldom run at once, and a byte seldom changes during a call.
# Until one does, a run makes more calls: up to this many times its usual number.
PATIENCE = 64


@pytest.fixture
def module() -> Iterator[Module]:
    with ExitStack() as stack:
        yield Module(stack)


@pytest.mark.parametrize("flips", [False, True], ids=["alone", "changed-meanwhile"])
def test_arguments(module: Module, seed: int, calls: int, record: Record, flips: bool) -> None:
    """Every answer is right, also while another process flips a byte of the struct or ranges."""
    generator = Generator(module.world, seed)
    size = FLIPPED_BATCH if flips else BATCH
    made = succeeded = changed = 0
    sharp = 0.0
    with module.flipper() if flips else nullcontext():
        wanted = -(-calls // (8 * size if flips else size))
        for index in range(PATIENCE * wanted):
            if index >= wanted and (changed or not flips):
                break
            batch = generator.batch(index, size, flips=flips)
            tried = module.try_out(batch)
            made += size
            succeeded += int((tried.numbers == 0).sum())
            changed += int(tried.changed.sum())
            sharp += float(tried.verdict.sharp.sum())
            if tried.wrong.any():
                first = int(tried.wrong.argmax())
                found = described(batch, tried, first)
                fewest = smallest(module, batch.one(first))
                again = described(fewest, module.try_out(fewest), 0)
                where = f"--seed {seed}: batch {index}, call {first} of {size}"
                pytest.fail(f"{where}\n{found}\nat its smallest:\n{again}")
    assert succeeded > made // 10, "too few calls get through"
    assert sharp > made * 3 // 4, "too many calls may answer this or that"
    assert bool(changed) == flips, "the other process changed nothing in time"
    record(calls=made, succeeded=succeeded, changed=changed, sharp=int(sharp))
