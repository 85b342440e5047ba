# SPDX-License-Identifier: MIT
"""Latencies by their distribution."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TypedDict

BUCKETS_PER_OCTAVE = 8


class Histogram(TypedDict):
    """Counts by logarithmic buckets; the first is the one that `first` numbers.

    Bucket i holds latencies of `edge(i)` nanoseconds and more, below the next one's.
    """

    per_octave: int
    first: int
    counts: list[int]


class Latencies(TypedDict):
    """How long events took."""

    events: int
    min_ns: int
    median_ns: int
    p99_ns: int
    max_ns: int
    histogram: Histogram


def percentile(ordered: Sequence[int], percent: float) -> int:
    """Return the least of the ascending values that `percent` of them don't exceed.

    Raises ValueError where there is no value.
    """
    if not ordered:
        raise ValueError("no values, so no percentile")
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def summary(ordered: Sequence[int]) -> Latencies:
    """Sum up ascending latencies in nanoseconds.  Raises ValueError where there is none."""
    return {
        "events": len(ordered),
        "min_ns": percentile(ordered, 0),
        "median_ns": percentile(ordered, 50),
        "p99_ns": percentile(ordered, 99),
        "max_ns": percentile(ordered, 100),
        "histogram": histogram(ordered),
    }


def histogram(ordered: Sequence[int]) -> Histogram:
    """Put ascending latencies in nanoseconds, of at least one, in buckets; 0 counts as 1."""
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
