# SPDX-License-Identifier: MIT
"""Tests that storms notice faults of the library: `make prove-shim-storms-host` runs them."""

import time
from pathlib import Path

import pytest

import broken
import redis_storm
import storm
from broken import Fault
from experiments.part import ExperimentError
from storm import Length, Storms

# A storm that notices nothing is followed by another, which draws from another seed.
EACH = 10


@pytest.mark.parametrize("fault", broken.FAULTS, ids=str)
def test_a_storm_notices(fault: Fault, tmp_path: Path, length: Length, faults: Storms) -> None:
    library = broken.build(fault, tmp_path)
    begun = time.monotonic()
    tries = 0
    noticed = False
    while not noticed and time.monotonic() < begun + max(length.seconds, EACH):
        noticed = storm.noticed(broken.once(library, fault, Length(EACH, length.seed + tries)))
        tries += 1
    assert noticed
    faults[str(fault)] = {"tries": tries, "seconds": round(time.monotonic() - begun)}


def test_without_a_fault_it_notices_nothing(tmp_path: Path, length: Length, storms: Storms) -> None:
    """The library is built as with a fault, and pauses wherever it gives back a unit."""
    library = broken.build(broken.NONE, tmp_path)
    ended = broken.once(library, broken.NONE, length)
    found = storm.counts(ended.stderr) | storm.counts(ended.stdout)
    assert (ended.returncode, found["lost"]) == (0, 0), ended.stdout + ended.stderr
    assert found["hook_units"] > 0
    storms["jemalloc, hooks, pauses"] = found


@pytest.mark.parametrize(
    ("fault", "setting"),
    [(broken.ZEROS, "hooks"), (broken.MORE, "hooks"), (broken.ADVISED, "library")],
    ids=str,
)
def test_a_storm_on_redis_notices(
    fault: Fault, setting: str, tmp_path: Path, length: Length, faults: Storms
) -> None:
    """The server crashes, or has lost data."""
    library = broken.build(fault, tmp_path)
    begun = time.monotonic()
    with pytest.raises((redis_storm.LostDataError, ConnectionError, ExperimentError)) as noticed:
        redis_storm.run_preloaded(tmp_path, setting, length, ",backend:null", shim=str(library))
    seconds = round(time.monotonic() - begun)
    faults[f"redis, {fault}"] = {"seconds": seconds}
    assert str(noticed.value)
