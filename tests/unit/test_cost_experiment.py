# SPDX-License-Identifier: MIT
"""Tests of the experiment `reclaim-cost`: its layout, its meter and its trace of lock holds."""

from array import array

import pytest

from cleanup.errors import CleanupError
from experiments.cost import meter, methods, trace
from experiments.part import ExperimentError
from experiments.sparse import UNIT


@pytest.mark.parametrize("live_inside", [False, True])
def test_layout(live_inside: bool) -> None:
    """Each layout has 256 empty units, and notices a write to a live one; empty ones it samples."""
    with methods.layout(3, 256, live_inside=live_inside) as made:
        units = made.length // UNIT
        inside = [unit for unit in made.live if unit < units]
        assert len(made.live) == methods.LIVE_TABLES
        assert units - len(inside) == 256
        assert len(inside) == (methods.LIVE_TABLES if live_inside else 0)
        assert sum(last - first for first, last in made.empty) == 256
        assert made.intact()
        assert made.empty_reads_zero()
        first, last = made.empty[-1]
        for unit in range(first, last):
            made.mapping.page(unit)[9] = 1
        assert live_inside or not made.empty_reads_zero()
        made.mapping.page(max(made.live))[17] ^= 1
        assert not made.intact()


def test_instructions_are_what_neither_idled_nor_ticked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meter subtracts what the idle process, interrupts and an empty operation execute."""
    rounds = array("Q", [0])
    samples = iter([(0, 0), (300_000, 100_000), (1_000_000, 400_000)])

    def clock() -> int:
        now, rounds[0] = next(samples)
        return now

    monkeypatch.setattr("time.monotonic_ns", clock)
    monkeypatch.setattr(meter, "rcu_barrier", lambda: None)
    counter = meter.Meter(memoryview(rounds))
    counter.background = 0.01
    counter.empty = meter.Cost(1_000, 20_000)
    assert counter.net(lambda: None) == meter.Cost(
        call_instructions=300_000 - 200_000 - 3_000 - 1_000,
        instructions=1_000_000 - 800_000 - 10_000 - 20_000,
    )


def test_the_meter_refuses_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the clock doesn't count instructions, the meter's figures would be times."""
    monkeypatch.delenv("PGTABLE_CLEANUP_ICOUNT", raising=False)
    with pytest.raises(ExperimentError, match="--icount"), meter.running():
        pass


# A trace in the format of Linux 6.1.
TRACE = """\
# tracer: nop
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
          python-135     [000] ..... 290203278180: mmap_lock_acquire_returned: mm=000000006012307c \
memcg_path=/ write=false success=true
          python-135     [000] ..... 290203493854: mmap_lock_released: mm=000000006012307c \
memcg_path=/ write=false
          python-135     [000] ..... 290203494907: mmap_lock_acquire_returned: mm=000000006012307c \
memcg_path=/ write=true success=true
          python-135     [000] d..1. 290203770779: mmap_lock_released: mm=000000006012307c \
memcg_path=/ write=true
"""


def test_holds_of_a_trace() -> None:
    """A hold lasts from the acquisition of the lock to its release."""
    assert trace.holds(TRACE.splitlines()) == [
        trace.Hold(write=False, cycles=215_674),
        trace.Hold(write=True, cycles=275_872),
    ]


def test_an_acquisition_that_failed_is_no_hold() -> None:
    """A wait that was interrupted and a trylock that failed don't get the lock."""
    failed = TRACE.replace("write=false success=true", "write=false success=false")
    assert trace.holds(failed.splitlines()) == [trace.Hold(write=True, cycles=275_872)]


@pytest.mark.parametrize(
    "broken",
    [
        TRACE.replace("memcg_path=/ write=false\n", "memcg_path=/ write=true\n"),
        TRACE + "CPU:0 [LOST 12 EVENTS]\n",
    ],
)
def test_a_trace_with_gaps_is_refused(broken: str) -> None:
    """A trace that lost events is refused, because the longest hold may be in the gap."""
    with pytest.raises(CleanupError):
        trace.holds(broken.splitlines())
