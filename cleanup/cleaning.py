# SPDX-License-Identifier: MIT
"""`scan` and `reclaim`, and how their arguments name the page tables to work on."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cleanup import _uapi, device
from cleanup._buffer import Buffer
from cleanup.errors import CallFailed, ProcessGone, no_such_process
from cleanup.process import checked_pid
from cleanup.ranges import Range
from cleanup.request import Progress, Request, carry_out
from cleanup.result import Result


def scan(
    target: Buffer | int | None = None,
    *,
    ranges: Iterable[tuple[int, int]] | None = None,
    levels: Iterable[str] | None = None,
    max_tables: int | None = None,
    max_hold_ns: int | None = None,
    zero_pages: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Count page tables and those of them that are empty; free nothing.

    >>> print(cleanup.scan(4711))
    4 of 10 page tables were empty; left alone: 6 mapped

    The parameters and the exceptions are those of `reclaim`, but for two:

    :param max_tables: end the work after this many tables were seen
    :param zero_pages: count a table as empty also if it holds nothing but entries that
        `reclaim(zero_pages=True)` would drop
    """
    work = Work(False, levels, max_tables, max_hold_ns, zero_pages)
    with address_space(target, ranges) as space, device.opened() as opened:
        return clean(opened, space, work, progress)


def reclaim(
    target: Buffer | int | None = None,
    *,
    ranges: Iterable[tuple[int, int]] | None = None,
    levels: Iterable[str] | None = None,
    max_tables: int | None = None,
    max_hold_ns: int | None = None,
    zero_pages: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Free page tables that hold no entry at all: no data is lost, and no guard or other marker.

    >>> memory = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    >>> ...  # touch it here and there, then release parts of it with MADV_DONTNEED
    >>> print(cleanup.reclaim(memory))
    4 of 10 page tables were empty, 4 were freed (16 KiB); left alone: 6 mapped

    Memory need not be aligned: it is rounded outward to whole pages. That risks nothing, as a table
    is freed only if all its entries are empty, also those outside the memory. For the same reason
    the tables at both ends count, though other memory may share them. The buffer is held until the
    call returns, so that its owner can't unmap it meanwhile.

    :param target: memory of this process (anything contiguous with the buffer protocol, read-only
        too), the pid of a process, or None for the whole of this process
    :param ranges: parts of a process's address space to work on, as `Range` or as pairs of a
        page-aligned address and a length in bytes; by default all of its mappings
    :param levels: some of "pte", "pmd" and "pud"; by default all that the module serves
    :param max_tables: free at most this many tables; `Result.complete` is false if more may be left
    :param max_hold_ns: bound each hold of the target's mmap lock, in nanoseconds
    :param zero_pages: first drop the entries of private anonymous memory that map the shared zero
        page
    :param progress: called with the result so far after each system call
    :raises ModuleMissing: the module is not loaded
    :raises AbiMismatch: the loaded module is of another version
    :raises NotPermitted: the caller may not touch that process (EPERM, EACCES)
    :raises ProcessGone: there is no such process (ESRCH)
    :raises Unmapped: the ranges have unmapped holes (ENOMEM); all the rest is done
    :raises Contended: other work blocked every empty table (EAGAIN)
    :raises CallFailed: any other failure, such as EINVAL for ranges that are not aligned; all of
        the above are CallFailed and OSError, too
    :raises TypeError: the target is neither memory nor a pid, or ranges are given with memory
    :raises ValueError: a pid or a bound is below 1, or a level is unknown
    :raises BufferError: the memory is not contiguous
    """
    work = Work(True, levels, max_tables, max_hold_ns, zero_pages)
    with address_space(target, ranges) as space, device.opened() as opened:
        return clean(opened, space, work, progress)


@dataclass(frozen=True, slots=True)
class Work:
    """The options of `reclaim`: whether it frees, on which levels and within which bounds.

    Raises ValueError for a bound below 1 and for an unknown level.
    """

    frees: bool
    levels: Iterable[str] | None = None
    max_tables: int | None = None
    max_hold_ns: int | None = None
    zero_pages: bool = False

    def __post_init__(self) -> None:
        for name, value in (("max_tables", self.max_tables), ("max_hold_ns", self.max_hold_ns)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.levels is not None:
            levels = (self.levels,) if isinstance(self.levels, str) else tuple(self.levels)
            level_mask(levels)
            object.__setattr__(self, "levels", levels)


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """The address space to work on.

    `what` names it in messages. `pidfd` is -1 for this process. `ranges` is None for all of it.
    """

    what: str
    pidfd: int
    ranges: tuple[Range, ...] | None


@contextmanager
def address_space(
    target: Buffer | int | None, ranges: Iterable[tuple[int, int]] | None
) -> Iterator[AddressSpace]:
    """Yield the address space of a target; hold its buffer or a pidfd until the block ends.

    Raises what `reclaim` raises for its target.
    """
    spans = None if ranges is None else tuple(Range(*span) for span in ranges)
    if target is None:
        yield AddressSpace("this process", -1, spans)
    elif isinstance(target, int):
        pid = checked_pid(target)
        if pid == os.getpid():
            yield AddressSpace(f"pid {pid}", -1, spans)
            return
        pidfd = _open_pidfd(pid)
        try:
            yield AddressSpace(f"pid {pid}", pidfd, spans)
        finally:
            os.close(pidfd)
    else:
        if spans is not None:
            raise TypeError("ranges are for a process; a buffer is its own range")
        with memoryview(target) as view:
            yield AddressSpace("the buffer", -1, (_pages_of(view),))


def clean(
    opened: device.Device, space: AddressSpace, work: Work, progress: Progress | None = None
) -> Result:
    """Do the work through an open device. Raises CallFailed."""
    flags = 0 if work.frees else _uapi.SCAN_ONLY
    request = Request(
        what=space.what,
        flags=flags | _uapi.ZERO_PAGES if work.zero_pages else flags,
        levels=opened.features.levels if work.levels is None else level_mask(work.levels),
        pidfd=space.pidfd,
        ranges=space.ranges,
        max_tables=work.max_tables,
        max_hold_ns=work.max_hold_ns or 0,
    )
    return carry_out(
        partial(_uapi.call, opened.fd),
        request,
        max_ranges=opened.features.max_ranges,
        progress=progress,
    )


def level_mask(levels: Iterable[str]) -> int:
    """Return the bits of named levels. Raises ValueError for an unknown name, and for no name."""
    mask = 0
    for level in levels:
        if level not in _uapi.LEVELS:
            raise ValueError(f"unknown level {level!r}: the levels are {', '.join(_uapi.LEVELS)}")
        mask |= _uapi.LEVELS[level]
    if not mask:
        raise ValueError(f"no level: name one or more of {', '.join(_uapi.LEVELS)}")
    return mask


def _pages_of(view: memoryview) -> Range:
    """Return the whole pages that hold the bytes of `view`."""
    start = _uapi.address_of(view)
    first = start - start % mmap.PAGESIZE
    end = start + view.nbytes
    last = end + -end % mmap.PAGESIZE
    return Range(first, last - first if view.nbytes else 0)


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise no_such_process(pid) from error
    except OSError as error:
        # pidfd_open() fails alike for a thread and for a process that ends meanwhile: by EINVAL,
        # and by ENOENT since Linux 6.15.
        if not Path(f"/proc/{pid}").exists():
            raise no_such_process(pid) from error
        if error.errno in (errno.EINVAL, errno.ENOENT):
            raise ProcessGone(
                errno.ESRCH, f"pid {pid}: a thread, not a process", hint="name its process"
            ) from error
        raise CallFailed(
            error.errno or errno.EINVAL,
            f"pid {pid}: {(error.strerror or 'can not be opened').lower()}",
        ) from error
