# SPDX-License-Identifier: MIT
"""Helpers that run storm.c: threads, signals and forks at once under the preload library."""

import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import preloaded
from proof import results

STORM = Path(__file__).parents[1] / "build/editable/storm"
SEED = 1
Storms = dict[str, dict[str, int]]
# Drains come as often as can be: at each release, and every ms from the library's thread.
CONF = "threshold:1,interval_ms:1,thread:true,stats:exit"
# With the first setting jemalloc gives freed memory back at once, with the second later.
DECAYS = ("dirty_decay_ms:0,muzzy_decay_ms:0", "dirty_decay_ms:50")
# A storm must have done each of these at least once.
EVERYONE = dict.fromkeys(("steps", "signals", "forks", "spawns", "zeros", "locks"), 0)
# On a busy machine a storm may take up to this many times as long to do enough.
PATIENCE = 4


def run(
    program: Path, seconds: int, env: dict[str, str], above: Mapping[str, int]
) -> dict[str, int]:
    """Run ever longer storms until one exceeds the counts in `above`; return its counts.

    These are the storm's and the library's.  Each storm must end by itself and lose no byte.
    """
    wanted = EVERYONE | dict(above)
    longest = PATIENCE * seconds
    while True:
        found = _run_once(program, seconds, env)
        lacking = {name: found[name] for name, count in wanted.items() if found[name] <= count}
        if not lacking:
            return found
        seconds *= 2
        assert seconds <= longest, f"too little in {found['seconds']} s: {lacking}"


def _run_once(program: Path, seconds: int, env: dict[str, str]) -> dict[str, int]:
    begun = time.monotonic()
    ended = subprocess.run(
        [program, str(seconds), str(SEED)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "lost=0" in ended.stdout
    found = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", ended.stdout)}
    of_library = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", ended.stderr)}
    return of_library | found | {"seconds": round(time.monotonic() - begun)}


def run_preloaded(
    seconds: int, conf: str, *allocators: str, above: Mapping[str, int], **more: str
) -> dict[str, int]:
    """Run the storm as `run` does, with the library and any `allocators` preloaded."""
    return run(STORM, seconds, preloaded.environment(conf, *allocators, **more), above)


@pytest.fixture
def storm_seconds(pytestconfig: pytest.Config) -> int:
    """Return how many seconds each storm on the preload library is to last."""
    found: int = pytestconfig.getoption("--storm-seconds")
    return found


@pytest.fixture(scope="session")
def storms() -> Iterator[Storms]:
    """Collect the counts of storms that passed; in the end they are kept as a proof's figures."""
    passed: Storms = {}
    yield passed
    results.keep("storms", passed)
