# SPDX-License-Identifier: MIT
"""Threads, signals and forks under the preload library; all that is allocated is checked."""

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
# Every release is looked at, by whoever made it and by a thread of the library's own.
CONF = "threshold:1,interval_ms:1,thread:true,stats:exit"
# jemalloc's: what is freed is given back at once, and after a wait.
DECAYS = ("dirty_decay_ms:0,muzzy_decay_ms:0", "dirty_decay_ms:50")
# Each of these is to have done something.
EVERYONE = dict.fromkeys(("steps", "signals", "forks", "spawns"), 0)
# A storm on a busy machine gets so many times as long to come so far.
PATIENCE = 4


def run(
    program: Path, seconds: int, env: dict[str, str], above: Mapping[str, int]
) -> dict[str, int]:
    """What it did and what the library did, more of each count than `above` says.

    It must end by itself and have lost no byte.
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
    """As `run`, in the environment of `preloaded`."""
    return run(STORM, seconds, preloaded.environment(conf, *allocators, **more), above)


@pytest.fixture
def storm_seconds(pytestconfig: pytest.Config) -> int:
    """How long each storm on the preload library is to last."""
    found: int = pytestconfig.getoption("--storm-seconds")
    return found


@pytest.fixture(scope="session")
def storms() -> Iterator[Storms]:
    """Where a storm that has passed says what it did; in the end the figures of a proof."""
    passed: Storms = {}
    yield passed
    results.keep("storms", passed)
