# SPDX-License-Identifier: MIT
"""The rules of the extent hooks: threads in one unit, with time for each to come in between."""

import subprocess
import sys
from pathlib import Path

import _hooks
import pytest

PROGRAM = f"""
import sys, threading
sys.path.insert(0, {str(Path(_hooks.__file__).parent)!r})
import _hooks
unit = _hooks.start(sys.argv[1])
found = []
def work(number):
    found.append(_hooks.use(unit + number * 65536, 4096 * (number + 1), 400, number + 1))
threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sum(stale for stale, _ in found), sum(lost for _, lost in found), *_hooks.stats())
"""


@pytest.mark.parametrize("way", ["zap", "remap", "nothing"])
def test_no_byte_is_lost_and_none_is_stale(way: str) -> None:
    """Committed memory is zero, and keeps what is written while others give the unit back."""
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM, way],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    stale, lost, units, waits = map(int, said.split())
    assert (stale, lost) == (0, 0)
    assert units > 20, "there was a race"
    assert waits > 20, "and threads met in it"
