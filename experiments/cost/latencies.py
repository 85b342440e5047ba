# SPDX-License-Identifier: MIT
"""Percentiles and histograms of latencies."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from experiments.part import Measured

BUCKETS_PER_OCTAVE = 8


def percentile(ordered: Sequence[int], percent: float) -> int:
    """Return a percentile, by nearest rank, of ascending values; there must be at least one."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def summary(ordered: Sequence[int]) -> Measured:
    """Return percentiles and a histogram of one or more ascending latencies in nanoseconds."""
    return {
        "events": len(ordered),
        "min_ns": percentile(ordered, 0),
        "median_ns": percentile(ordered, 50),
        "p99_ns": percentile(ordered, 99),
        "max_ns": percentile(ordered, 100),
        "histogram": histogram(ordered),
    }


def histogram(ordered: Sequence[int]) -> Measured:
    """Count one or more ascending latencies, in nanoseconds, in logarithmic buckets.

    `counts` begins with the bucket whose number is `first`. Bucket i holds latencies of at least
    `edge(i)` and less than `edge(i + 1)`; a latency of 0 counts as 1.
    """
    # No whole number is so near an edge that a rounded logarithm puts it in the wrong bucket.
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
