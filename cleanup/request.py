# SPDX-License-Identifier: MIT
"""A request to the module, carried out by as many system calls as it takes.

The ioctl is resumable: the kernel ends a call early when a signal is pending, and returns 0. Python
then runs its signal handlers before the next call, so that Ctrl-C ends the work and a harmless
signal does not.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from cleanup import _uapi
from cleanup.errors import from_errno
from cleanup.result import Result, of_call

Cursor = tuple[int, int, int]  # where a call begins: range, level, address
Progress = Callable[[Result], None]
Call = Callable[..., _uapi.Counts]  # `_uapi.call` for one device


@dataclass(frozen=True, slots=True)
class Request:
    """The target, the work and the bounds to hand to the module.

    `what` names the target in messages. `ranges` is None for its whole address space, and
    `max_tables` None sets no bound.
    """

    what: str
    flags: int
    levels: int
    pidfd: int
    ranges: Sequence[tuple[int, int]] | None
    max_tables: int | None
    max_hold_ns: int


def carry_out(
    call: Call, request: Request, *, max_ranges: int, progress: Progress | None
) -> Result:
    """Carry `request` out in calls of at most `max_ranges` ranges, and add up their counts.

    Raises CallFailed, with what was done by then as its `result`: Unmapped only at the end, and
    Contended only if the whole request freed nothing.
    """
    result = Result()
    blocked = False
    for flags, ranges, end in _vectors(request, max_ranges):
        cursor: Cursor = (0, 0, 0)
        while cursor[0] < end:
            left = _tables_left(request, result)
            if left == 0:
                return result
            number = 0
            try:
                counts = call(
                    flags=flags,
                    levels=request.levels,
                    pidfd=request.pidfd,
                    ranges=ranges,
                    max_tables=left or 0,
                    max_hold_ns=request.max_hold_ns,
                    cursor=cursor,
                )
            except _uapi.CallError as error:
                counts, number = error.counts, error.errno or errno.EIO
            before = cursor
            cursor = (counts.next_range, counts.next_level, counts.next_addr)
            result += of_call(counts)
            blocked = blocked or number == errno.EAGAIN
            # A call that failed without getting any further would fail there for ever.
            if number not in (0, errno.ENOMEM, errno.EAGAIN) or (number and cursor == before):
                raise from_errno(number, request.what, result)
            if progress is not None:
                progress(result)
    result = replace(result, complete=True)
    if result.holes and request.ranges is not None:
        raise from_errno(errno.ENOMEM, request.what, result)
    if blocked and not result.freed.total:
        raise from_errno(errno.EAGAIN, request.what, result)
    return result


def _vectors(
    request: Request, max_ranges: int
) -> Iterator[tuple[int, Sequence[tuple[int, int]], int]]:
    """Yield flags and ranges to call with, and the `next_range` that says they are done."""
    if request.ranges is None:
        yield request.flags | _uapi.WHOLE_MM, (), 1
        return
    for start in range(0, len(request.ranges), max_ranges):
        ranges = request.ranges[start : start + max_ranges]
        yield request.flags, ranges, len(ranges)


def _tables_left(request: Request, result: Result) -> int | None:
    if request.max_tables is None:
        return None
    done = result.tables if request.flags & _uapi.SCAN_ONLY else result.freed
    return max(0, request.max_tables - done.total)
