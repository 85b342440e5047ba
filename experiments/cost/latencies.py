# SPDX-License-Identifier: MIT
"""Latencies by their distribution."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import TypedDict, TypeVar

BUCKETS_PER_OCTAVE = 8

Round = TypeVar("Round")


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
    """The least of the ascending values that `percent` of them don't exceed.

    ValueError where there is no value.
    """
    if not ordered:
        raise ValueError("no values, so no percentile")
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def summary(ordered: Sequence[int]) -> Latencies:
    """The summary of ascending latencies in nanoseconds; ValueError where there is none."""
    return {
        "events": len(ordered),
        "min_ns": percentile(ordered, 0),
        "median_ns": percentile(ordered, 50),
        "p99_ns": percentile(ordered, 99),
        "max_ns": percentile(ordered, 100),
        "histogram": histogram(ordered),
    }


def histogram(ordered: Sequence[int]) -> Histogram:
    """Ascending latencies in nanoseconds, of at least one, in buckets; 0 counts as 1."""
    first, last = (_bucket(max(1, value)) for value in (ordered[0], ordered[-1]))
    ends = [bisect_left(ordered, edge(bucket + 1)) for bucket in range(first, last + 1)]
    counts = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    return {"per_octave": BUCKETS_PER_OCTAVE, "first": first, "counts": counts}


def edge(bucket: int) -> float:
    """The least latency of a bucket, in nanoseconds."""
    return float(2 ** (bucket / BUCKETS_PER_OCTAVE))


def _bucket(value: int) -> int:
    bucket = math.floor(math.log2(value) * BUCKETS_PER_OCTAVE)
    # Where rounding puts a value on the wrong side of an edge, the edge decides.
    return bucket + 1 if value >= edge(bucket + 1) else bucket


def count_above(ordered: Sequence[int], limit: float) -> int:
    """How many of the ascending values exceed `limit`."""
    return len(ordered) - bisect_right(ordered, limit)


def share_above(ordered: Sequence[int], limit: float) -> float:
    """What part of the ascending values exceeds `limit`, from 0 to 1; 0 of no values."""
    return count_above(ordered, limit) / len(ordered) if ordered else 0.0


def median_round(rounds: Sequence[Round], key: Callable[[Round], float]) -> Round:
    """The round in the middle by `key`; the higher of two."""
    return sorted(rounds, key=key)[len(rounds) // 2]
