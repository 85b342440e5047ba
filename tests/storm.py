# SPDX-License-Identifier: MIT
"""Helpers that run storm.c: threads, signals and forks at once under the preload library."""

import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import preloaded
from proof import results

STORM = Path(__file__).parents[1] / "build/editable/storm"
Storms = dict[str, dict[str, int]]
# Drains come as often as can be: at each release, and every ms from the library's thread.
CONF = "threshold:1,interval_ms:1,thread:true,stats:exit"
# With the first setting jemalloc gives freed memory back at once, with the second later.  Where
# each thread has an arena and a cache, as by default, threads seldom meet in a unit.
DECAYS = (
    "narenas:1,tcache:false,dirty_decay_ms:0,muzzy_decay_ms:0",
    "dirty_decay_ms:50",
)
# A storm must have done each of these at least once.
EVERYONE = dict.fromkeys(
    ("steps", "signals", "forks", "spawns", "allocations", "frees", "zeros", "locks"), 0
)
# On a busy machine a storm may take up to this many times as long to do enough.
PATIENCE = 4
# A storm that hangs is ended after so many seconds more than it was to take.
SPARE_SECONDS = 120


@dataclass(frozen=True)
class Length:
    """How long a storm is to last, and from which seed it draws what it does."""

    seconds: int
    seed: int


def run(
    program: Path, length: Length, env: dict[str, str], above: Mapping[str, int]
) -> dict[str, int]:
    """Run ever longer storms until one exceeds the counts in `above`; return its counts.

    These are the storm's and the library's.  Each storm must end by itself and lose no byte.
    """
    wanted = EVERYONE | dict(above)
    seconds = length.seconds
    while True:
        begun = time.monotonic()
        ended = once(program, Length(seconds, length.seed), env)
        assert ended.returncode == 0, f"{ended.returncode}: {ended.stdout}{ended.stderr}"
        assert "lost=0" in ended.stdout
        found = counts(ended.stderr) | counts(ended.stdout)
        found["seconds"] = round(time.monotonic() - begun)
        lacking = {name: found[name] for name, count in wanted.items() if found[name] <= count}
        if not lacking:
            return found
        seconds *= 2
        longest = PATIENCE * length.seconds
        assert seconds <= longest, f"too little in {found['seconds']} s: {lacking}"


def once(program: Path, length: Length, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run one storm, whatever comes of it."""
    return subprocess.run(
        [program, str(length.seconds), str(length.seed)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=length.seconds + SPARE_SECONDS,
    )


def noticed(ended: "subprocess.CompletedProcess[str]") -> bool:
    """Say whether a storm lost bytes or crashed, and not just whether it failed."""
    return ended.returncode < 0 or counts(ended.stdout).get("lost", 0) > 0


def counts(text: str) -> dict[str, int]:
    """Return the counts that a storm or the library printed."""
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", text)}


def run_preloaded(
    length: Length, conf: str, *allocators: str, above: Mapping[str, int], **more: str
) -> dict[str, int]:
    """Run the storm as `run` does, with the library and any `allocators` preloaded."""
    return run(STORM, length, preloaded.environment(conf, *allocators, **more), above)


@pytest.fixture
def length(pytestconfig: pytest.Config) -> Length:
    """Return how long each storm on the preload library is to last."""
    return Length(pytestconfig.getoption("--storm-seconds"), pytestconfig.getoption("--storm-seed"))


@pytest.fixture(scope="session")
def storms() -> Iterator[Storms]:
    """Collect the counts of storms that passed; in the end they are kept as a proof's figures."""
    passed: Storms = {}
    yield passed
    results.keep("storms", passed)


@pytest.fixture(scope="session")
def faults() -> Iterator[Storms]:
    """Collect how soon storms noticed faults that were put into the library, as `storms` does."""
    noticed: Storms = {}
    yield noticed
    results.keep("faults", noticed)
