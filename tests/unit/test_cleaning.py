# SPDX-License-Identifier: MIT
"""Tests of what `scan` and `reclaim` make of their arguments, and of what they return."""

import errno
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cleanup
from cleanup import _uapi, cleaning

if TYPE_CHECKING:
    from unit.conftest import FakeModule

PAGE = mmap.PAGESIZE


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_a_buffer_is_rounded_outward_to_whole_pages(module: "FakeModule") -> None:
    with mmap.mmap(-1, 4 * PAGE) as memory:
        start = _uapi.address_of(memory)
        cleanup.reclaim(memory)
        with memoryview(memory) as view, view[PAGE - 1 : PAGE + 1] as part:
            cleanup.reclaim(part)
    assert [arguments["ranges"] for arguments in module.calls] == [
        ((start, 4 * PAGE),),
        ((start, 2 * PAGE),),
    ]
    assert all(arguments["pidfd"] == -1 and not arguments["flags"] for arguments in module.calls)


@given(start=st.integers(0, 3 * PAGE), length=st.integers(0, 3 * PAGE))
def test_the_pages_of_a_buffer_hold_all_its_bytes(start: int, length: int) -> None:
    with (
        mmap.mmap(-1, 6 * PAGE) as memory,
        memoryview(memory) as view,
        view[start : start + length] as part,
    ):
        address, size = cleaning._pages_of(part)
        first = _uapi.address_of(part)
    assert address % PAGE == size % PAGE == 0
    if length:
        assert address <= first < first + length <= address + size
        assert size < length + 2 * PAGE
    else:
        assert size == 0


@pytest.mark.parametrize(
    "memory",
    [b"read-only", bytearray(10), np.zeros((3, 4)), np.zeros((3, 4), order="F"), memoryview(b"x")],
    ids=["bytes", "bytearray", "ndarray", "fortran order", "memoryview"],
)
def test_any_contiguous_buffer_will_do(module: "FakeModule", memory: bytes) -> None:
    assert cleanup.scan(memory).empty.pte == 4
    assert module.calls[0]["flags"] == _uapi.SCAN_ONLY


def test_memory_with_gaps_is_refused(module: "FakeModule") -> None:
    with pytest.raises((BufferError, ValueError), match="contiguous"):
        # numpy's stubs know the buffer protocol from Python 3.12 on
        cleanup.scan(np.zeros((3, 4))[:, ::2])  # type: ignore[arg-type]
    assert not module.calls


def test_the_buffer_is_held_during_the_call(module: "FakeModule") -> None:
    memory = mmap.mmap(-1, PAGE)

    def close(_result: cleanup.Result) -> None:
        with pytest.raises(BufferError):
            memory.close()

    cleanup.reclaim(memory, progress=close)
    memory.close()
    assert module.calls


@pytest.mark.parametrize("pid", [None, os.getpid()])
def test_the_own_process_needs_no_pidfd(module: "FakeModule", pid: int | None) -> None:
    cleanup.reclaim(pid)
    assert module.calls[0]["pidfd"] == -1
    assert module.calls[0]["flags"] == _uapi.WHOLE_MM


def test_another_process_is_named_by_a_pidfd_that_is_closed(module: "FakeModule") -> None:
    before = descriptors()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        pipes = descriptors()
        cleanup.reclaim(child.pid)
        assert descriptors() == pipes
    assert module.calls[0]["pidfd"] >= 0
    assert descriptors() == before


def test_ranges_narrow_a_process_down(module: "FakeModule") -> None:
    cleanup.scan(ranges=[(PAGE, PAGE), (4 * PAGE, PAGE)])
    assert module.calls[0]["ranges"] == ((PAGE, PAGE), (4 * PAGE, PAGE))
    assert module.calls[0]["flags"] == _uapi.SCAN_ONLY
    with pytest.raises(TypeError, match="its own range"):
        cleanup.scan(bytearray(1), ranges=[(PAGE, PAGE)])


def test_levels_go_by_name(module: "FakeModule") -> None:
    cleanup.scan()
    cleanup.scan(levels="pmd")
    cleanup.scan(levels=["pte", "pud"])
    assert [arguments["levels"] for arguments in module.calls] == [1, 2, 5]


def test_bounds_reach_the_call(module: "FakeModule") -> None:
    cleanup.reclaim(max_tables=4, max_hold_ns=5)
    assert (module.calls[0]["max_tables"], module.calls[0]["max_hold_ns"]) == (4, 5)


def test_zero_pages_are_asked_for_by_scan_and_reclaim_alike(module: "FakeModule") -> None:
    cleanup.scan(zero_pages=True)
    cleanup.reclaim(zero_pages=True)
    flags = _uapi.WHOLE_MM | _uapi.ZERO_PAGES
    assert [arguments["flags"] for arguments in module.calls] == [flags | _uapi.SCAN_ONLY, flags]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": ["pgd"]}, "unknown level 'pgd': the levels are pte, pmd, pud"),
        ({"levels": []}, "no level"),
        ({"max_tables": 0}, "max_tables must be at least 1"),
        ({"max_hold_ns": -1}, "max_hold_ns must be at least 1"),
        ({"target": 0}, "a pid is at least 1"),
        ({"target": -4}, "a pid is at least 1"),
    ],
)
def test_bad_values_are_refused_before_any_call(
    module: "FakeModule", arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cleanup.reclaim(**arguments)  # type: ignore[arg-type]
    assert not module.calls


def test_a_process_that_is_gone(module: "FakeModule") -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(cleanup.ProcessGone, match=f"pid {child.pid}: no such process") as caught:
        cleanup.reclaim(child.pid)
    assert caught.value.errno == errno.ESRCH
    assert isinstance(caught.value, ProcessLookupError)
    assert not module.calls


def test_a_process_that_goes_during_the_call(
    module: "FakeModule", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is gone is not reported as a thread, though pidfd_open() fails as for one."""

    def refuse(pid: int) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(cleanup.ProcessGone, match=f"pid {child.pid}: no such process"):
        cleanup.reclaim(child.pid)
    assert not module.calls


def test_a_thread_is_no_process(module: "FakeModule", thread: int) -> None:
    with pytest.raises(cleanup.ProcessGone, match=f"pid {thread}: a thread.*: name its process"):
        cleanup.reclaim(thread)
    assert not module.calls


def test_results_are_values(module: "FakeModule") -> None:
    result = cleanup.reclaim(bytearray(1))
    assert result == cleanup.reclaim(bytearray(1))
    with pytest.raises(AttributeError):
        result.holes = 1  # type: ignore[misc]
    assert result.to_json() == {
        "tables": {"pte": 10, "pmd": 0, "pud": 0},
        "empty": {"pte": 4, "pmd": 0, "pud": 0},
        "freed": {"pte": 4, "pmd": 0, "pud": 0},
        "skipped": {"mapped": 6},
        "zero_pages_dropped": 0,
        "holes": 0,
        "flushes": 1,
        "longest_hold_ns": 1000,
        "calls": 1,
        "complete": True,
    }
    assert module.calls
