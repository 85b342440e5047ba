# SPDX-License-Identifier: MIT
"""Tests of the hooks' way remap beside threads that map memory of their own."""

import subprocess
import sys
from pathlib import Path

import _hooks
import pytest

PROGRAM = f"""
import sys, threading
sys.path.insert(0, {str(Path(_hooks.__file__).parent)!r})
import _hooks
import _libc as c
READ, WRITE, PRIVATE, FIXED, ANONYMOUS = 1, 2, 2, 0x10, 0x20
unit, size = _hooks.start("remap")
# The unit's second half is another mapping: the kernel refuses to move such a unit, and 6.1 and
# 6.12 have unmapped the place that it was to be moved to by then.
c.mmap(unit + size // 2, size // 2, READ, PRIVATE | FIXED | ANONYMOUS)
def map_unit(value):
    addr = c.mmap(0, size, READ | WRITE, PRIVATE | ANONYMOUS)
    c.fill(addr, 4096, value)
    return addr
"""

# Mappings that take the place that the failed move left, if it is free.
IN_TURN = """
lost = 0
for turn in range(4):
    _hooks.remap(unit)
    mapped = [map_unit(turn + 1) for _ in range(64)]
    _hooks.remap(unit + size)
    # The first of these that is gone ends the program by SIGSEGV.
    lost += sum(c.bytes_not(addr, 4096, turn + 1) for addr in mapped)
    for addr in mapped:
        c.munmap(addr, size)
print(lost)
"""

AT_ONCE = """
lost, ended = [], False
def work(value):
    while not ended:
        addr = map_unit(value)
        lost.append(c.bytes_not(addr, 4096, value))
        c.munmap(addr, size)
workers = [threading.Thread(target=work, args=(value + 1,)) for value in range(2)]
for worker in workers:
    worker.start()
for turn in range(400):
    _hooks.remap(unit)
    _hooks.remap(unit + size)
ended = True
for worker in workers:
    worker.join()
assert len(lost) > 10, len(lost)
print(sum(lost))
"""


@pytest.mark.parametrize("others", [IN_TURN, AT_ONCE], ids=["in turn", "at once"])
def test_a_table_that_is_moved_away_takes_no_other_threads_place(others: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM + others],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (ended.returncode, ended.stdout) == (0, "0\n"), ended.stderr
