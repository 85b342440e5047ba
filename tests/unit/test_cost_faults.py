# SPDX-License-Identifier: MIT
"""Tests of the loops that cause page faults: what they touch, record and release."""

import mmap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experiments.cost import _faults
from experiments.sparse import UNIT, sparse_mapping

PAGE = mmap.PAGESIZE
PAGES = 512


def minor_faults() -> int:
    """Return the number of minor faults of the calling thread."""
    stat = Path(f"/proc/self/task/{threading.get_native_id()}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[7])


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as made:
        made.madvise(mmap.MADV_NOHUGEPAGE)
        yield made


def rows(count: int, room: int) -> memoryview:
    """Make rows for latencies; their memory is populated only as latencies are recorded."""
    return memoryview(mmap.mmap(-1, 8 * count * room)).cast("Q", (count, room))


def test_touch_writes_a_byte_every_stride(memory: mmap.mmap) -> None:
    _faults.touch(memory, stride=4 * PAGE)
    written = [page for page in range(PAGES) if memory[page * PAGE]]
    assert written == list(range(0, PAGES, 4))


def test_release_gives_a_span_back_every_stride(memory: mmap.mmap) -> None:
    _faults.touch(memory, stride=PAGE)
    _faults.release(memory, stride=4 * PAGE, span=PAGE)
    kept = [page for page in range(PAGES) if memory[page * PAGE]]
    assert kept == [page for page in range(PAGES) if page % 4]
    _faults.release(memory)
    assert not any(memory[page * PAGE] for page in range(PAGES))


@pytest.mark.parametrize("stride", [0, 1, PAGE + 1])
def test_strides_are_whole_pages(memory: mmap.mmap, stride: int) -> None:
    with pytest.raises(ValueError, match="whole pages"):
        _faults.touch(memory, stride=stride)


def test_every_recorded_touch_is_a_fault(memory: mmap.mmap) -> None:
    """record() touches all pages, releases them and begins again, until its row is full."""
    room = 3 * PAGES + 1
    latencies = rows(1, room)
    before = minor_faults()
    counts, longest_release = _faults.record(memory, latencies, bytearray([1]))
    faults = minor_faults() - before
    assert counts == [room]
    assert room <= faults <= room + 64
    assert longest_release > 0
    assert all(latencies[0, index] for index in range(room))


def test_each_phase_has_its_row_and_waiting_none(memory: mmap.mmap) -> None:
    phase = bytearray(1)
    # No machine faults this often here: a thread whose row is full would stop faulting.
    room = 50_000_000
    latencies = rows(3, room)
    with ThreadPoolExecutor(1) as pool:
        thread = pool.submit(_faults.record, memory, latencies, phase)
        for number in (1, 0, 3):
            phase[0] = number
            time.sleep(0.05)
            while number and not latencies[number - 1, 0]:
                time.sleep(0.001)
        phase[0] = 4
        counts, _ = thread.result()
    assert counts[0] > 0
    assert counts[1] == 0
    assert counts[2] > 0
    for row, count in enumerate(counts):
        assert not any(latencies[row, index] for index in range(count, count + 10))


def test_release_by_batches() -> None:
    """Released pages read as zeros, and others keep their data; units must make whole batches."""
    with sparse_mapping(4 * UNIT, seed=1) as mapping:
        for unit in range(4):
            mapping.view[unit * UNIT] = mapping.view[unit * UNIT + PAGE] = 1
        with pytest.raises(ValueError, match="whole number of batches"):
            _faults.release_and_free(mapping.view, span=PAGE, every=3, fd=-1, max_hold_ns=0)
        with pytest.raises(ValueError, match="whole number of batches"):
            _faults.release_and_free(mapping.view, span=PAGE, every=0, fd=-1, max_hold_ns=0)
        # The first batch is released before the call that fails, and the second is not.
        with pytest.raises(OSError, match="Bad file descriptor"):
            _faults.release_and_free(mapping.view, span=PAGE, every=2, fd=-1, max_hold_ns=0)
        for unit in range(4):
            assert mapping.view[unit * UNIT] == (unit >= 2)
            assert mapping.view[unit * UNIT + PAGE] == 1


def test_record_takes_one_phase(memory: mmap.mmap) -> None:
    with pytest.raises(ValueError, match="one byte"):
        _faults.record(memory, rows(1, 1), bytearray(2))
