# SPDX-License-Identifier: MIT
"""Latencies by their distribution."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from experiments.part import Measured

BUCKETS_PER_OCTAVE = 8


def percentile(ordered: Sequence[int], percent: float) -> int:
    """Return the least of the ascending values, of at least one, that `percent` don't exceed."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def summary(ordered: Sequence[int]) -> Measured:
    """Sum up ascending latencies in nanoseconds, of at least one."""
    return {
        "events": len(ordered),
        "min_ns": percentile(ordered, 0),
        "median_ns": percentile(ordered, 50),
        "p99_ns": percentile(ordered, 99),
        "max_ns": percentile(ordered, 100),
        "histogram": histogram(ordered),
    }


def histogram(ordered: Sequence[int]) -> Measured:
    """Count ascending latencies in nanoseconds, of at least one, by logarithmic buckets.

    The first bucket is the one that `first` numbers. Bucket i holds latencies of `edge(i)` and
    more, below the next one's; 0 counts as 1.
    """
    # Whole numbers are too far from the edges for a logarithm to put them on the wrong side.
    first, last = (
        math.floor(math.log2(max(1, value)) * BUCKETS_PER_OCTAVE)
        for value in (ordered[0], ordered[-1])
    )
    ends = [bisect_left(ordered, edge(bucket + 1)) for bucket in range(first, last + 1)]
    counts = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    return {"per_octave": BUCKETS_PER_OCTAVE, "first": first, "counts": counts}


def edge(bucket: int) -> float:
    """Return the least latency of a bucket, in nanoseconds."""
    return float(2 ** (bucket / BUCKETS_PER_OCTAVE))


def count_above(ordered: Sequence[int], limit: float) -> int:
    """Count the ascending values that exceed `limit`."""
    return len(ordered) - bisect_right(ordered, limit)
