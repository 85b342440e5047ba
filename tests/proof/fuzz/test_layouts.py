# SPDX-License-Identifier: MIT
"""Random layouts: each answer equals the model's, VmPTE falls by the tables freed, data stay.

`--seed` repeats a run.  A run lasts until it has made an eighth of `--calls` calls.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from guest.settings import setting
from proof.conftest import Record
from proof.fuzz.layouts import Machine, mismatch, operations, smallest

KHUGEPAGED_PAUSE = Path("/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs")
HUGETLB_POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")


@pytest.fixture
def machine() -> Iterator[Machine]:
    with ExitStack() as stack:
        # khugepaged would change layouts behind the model's back.
        stack.enter_context(setting(KHUGEPAGED_PAUSE, "4000000000"))
        stack.enter_context(setting(HUGETLB_POOL, "16"))
        yield Machine.here(stack)


def test_layouts(machine: Machine, seed: int, calls: int, record: Record) -> None:
    layouts = 0
    totals: Counter[str] = Counter()
    while totals["calls"] < calls // 8:
        ops = operations(f"{seed}-{layouts}")
        found, done = mismatch(machine, ops)
        if found:
            fewest = smallest(ops, lambda fewer: mismatch(machine, fewer)[0])
            again = mismatch(machine, fewest)[0]
            pytest.fail(f"--seed {seed}: layout {layouts}\n{again or found}")
        totals += done
        layouts += 1
    record(layouts=layouts, **totals)
