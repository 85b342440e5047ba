# SPDX-License-Identifier: MIT
"""Tests of the arithmetic of `reclaim-cost`: distributions, shares and extrapolation."""

import random

import pytest

from experiments.cost import latencies
from experiments.cost.parts import faults, whole_process
from experiments.cost.survival import survival
from experiments.part import Measured


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (1.5, 2), (50, 50), (99, 99), (99.5, 100), (100, 100)]
)
def test_percentiles_are_values_that_were_measured(percent: float, expected: int) -> None:
    assert latencies.percentile(range(1, 101), percent) == expected


def test_percentile_of_one_value_is_that_value() -> None:
    assert {latencies.percentile([7], percent) for percent in (0, 50, 99, 100)} == {7}


def test_summary() -> None:
    summary = latencies.summary([1, 2, 3, 1000])
    assert (summary["events"], summary["min_ns"], summary["median_ns"]) == (4, 1, 2)
    assert (summary["p99_ns"], summary["max_ns"]) == (1000, 1000)


def test_what_is_above_a_limit_leaves_out_the_limit_itself() -> None:
    assert latencies.count_above([1, 2, 2, 3], 2) == 1
    assert latencies.count_above([1, 2], 5) == 0
    assert latencies.count_above([6, 7], 5) == 2
    assert latencies.count_above([], 5) == 0


def test_a_hundredth_is_above_its_own_p99() -> None:
    ordered = range(1, 10_001)
    usual = latencies.percentile(ordered, 99)
    assert latencies.count_above(ordered, usual) == 100


def test_histogram_counts_every_value_in_its_bucket() -> None:
    chooser = random.Random(1)
    edges = [int(latencies.edge(bucket)) for bucket in range(1, 200)]
    values = sorted(edges + [chooser.randrange(1, 1 << 34) for _ in range(1000)])
    found = latencies.histogram(values)
    assert sum(found["counts"]) == len(values)
    for index, count in enumerate(found["counts"]):
        lower, upper = (latencies.edge(found["first"] + index + more) for more in (0, 1))
        assert count == sum(lower <= value < upper for value in values), index


def test_histogram_takes_zero_and_equal_values() -> None:
    assert latencies.histogram([0, 0])["counts"] == [2]
    assert latencies.histogram([1024])["first"] == 10 * latencies.BUCKETS_PER_OCTAVE


def test_reading_is_extrapolated_by_the_length() -> None:
    assert whole_process.extrapolated(500.0, 64 << 30, 120 << 40) == 500.0 * 1920


def _round(usual_ns: int, longest_ns: int, hold_ns: int) -> Measured:
    spinning = {"latencies": {"p99_ns": usual_ns}}
    pte = {"latencies": {"max_ns": longest_ns}, "longest_hold_ns": hold_ns}
    return {"passes": {"spinning": spinning, "pte": pte}}


def test_the_claim_on_faults_is_judged_by_the_round_in_the_middle() -> None:
    disturbed, usual, lucky = _round(100, 9000, 1000), _round(90, 1050, 1000), _round(9, 20, 900)
    claim = faults.claim([disturbed, usual, lucky], "pte")
    assert (claim["value"], claim["limit"], claim["met"]) == (1050, 1090, True)
    assert not faults.claim([disturbed, disturbed, lucky], "pte")["met"]
    # Of two rounds, the worse one counts.
    assert not faults.claim([disturbed, lucky], "pte")["met"]


def test_survival_begins_at_all_and_adds_rounds_up() -> None:
    one, other = latencies.histogram([1000, 1000, 8000]), latencies.histogram([1000])
    times, shares = survival([one, other])
    assert times == pytest.approx([1.0, 8.0], rel=0.1)
    assert shares == [1, 0.25]
