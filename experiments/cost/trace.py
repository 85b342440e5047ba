# SPDX-License-Identifier: MIT
"""Holds of the mmap lock, as recorded by the kernel's own tracepoints."""

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from experiments.part import ExperimentError

_INSTANCE = Path("/sys/kernel/tracing/instances/pgtable-cleanup-holds")
_ACQUIRED, _RELEASED = "mmap_lock_acquire_returned", "mmap_lock_released"
# An event's line begins with the task's name and pid, CPU and flags.  The time counts cycles.
_EVENT = re.compile(
    r"^\s*\S.*-\d+\s+\[\d+\]\s+\S+\s+(?P<time>\d+): "
    rf"(?P<event>{_ACQUIRED}|{_RELEASED}): mm=(?P<mm>\S+) .*?write=(?P<write>true|false)"
    r"(?: success=(?P<success>true|false))?"
)


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold of an mmap lock, in cycles of the time-stamp counter."""

    write: bool
    cycles: int


@contextmanager
def recorded() -> Iterator[Sequence[Hold]]:
    """Record the calling thread's holds of mmap locks; the list is filled when the block ends.

    A hold lasts from the time stamp of taking the lock to that of its release, so it contains most
    of the time that recording the first event takes.  Time stamps are those of the x86 time-stamp
    counter.  Raises OSError without root or tracefs, and ExperimentError where events were lost.
    """
    _INSTANCE.mkdir()
    try:
        _write("tracing_on", "0")
        _write("trace_clock", "x86-tsc")
        _write("set_event_pid", str(threading.get_native_id()))
        for event in (_ACQUIRED, _RELEASED):
            _write(f"events/mmap_lock/{event}/enable", "1")
        found: list[Hold] = []
        _write("tracing_on", "1")
        yield found
        _write("tracing_on", "0")
        found.extend(holds((_INSTANCE / "trace").read_text(encoding="utf-8").splitlines()))
    finally:
        _INSTANCE.rmdir()


def holds(lines: Iterable[str]) -> Sequence[Hold]:
    """Return the holds in a trace of one thread.  Raises ExperimentError if events are missing."""
    found: list[Hold] = []
    begin: re.Match[str] | None = None
    for line in lines:
        if "LOST" in line:
            raise ExperimentError(f"the kernel's trace lost events: {line.strip()}")
        event = _EVENT.match(line)
        if event is None or event["success"] == "false":
            continue
        if event["event"] == _ACQUIRED:
            begin = event
        elif begin is not None:
            if (begin["mm"], begin["write"]) != (event["mm"], event["write"]):
                raise ExperimentError(f"a release without its acquisition: {line.strip()}")
            found.append(Hold(event["write"] == "true", int(event["time"]) - int(begin["time"])))
            begin = None
    return found


def _write(name: str, value: str) -> None:
    (_INSTANCE / name).write_text(value, encoding="ascii")
