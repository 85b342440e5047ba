# SPDX-License-Identifier: MIT
"""`scan` and `reclaim`: the call on a buffer, on another process, or on this one."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cleanup import _uapi, device, loop
from cleanup.errors import CallFailed, ProcessGone
from cleanup.result import Result

if TYPE_CHECKING:
    from typing_extensions import Buffer


def scan(
    target: Buffer | int | None = None,
    *,
    ranges: Iterable[loop.Range] | None = None,
    levels: Iterable[str] | None = None,
    max_tables: int | None = None,
    max_hold_ns: int | None = None,
    zero_pages: bool = False,
    progress: loop.Progress | None = None,
) -> Result:
    """Count page tables and those of them that are empty; free nothing.

    Takes and raises what `reclaim` does; `max_tables` bounds the tables seen. With `zero_pages`,
    tables that hold nothing but entries that it would have `reclaim` drop count as empty.
    """
    flags = _uapi.SCAN_ONLY | _zero_pages(zero_pages)
    return _run(flags, target, ranges, levels, max_tables, max_hold_ns, progress)


def reclaim(
    target: Buffer | int | None = None,
    *,
    ranges: Iterable[loop.Range] | None = None,
    levels: Iterable[str] | None = None,
    max_tables: int | None = None,
    max_hold_ns: int | None = None,
    zero_pages: bool = False,
    progress: loop.Progress | None = None,
) -> Result:
    """Free the page tables that hold no entry at all; never data, nor a table that has state.

    `target` is memory of this process (anything contiguous with the buffer protocol, read-only
    too), the pid of a process, or None for the whole of this process. Memory need not be aligned:
    it is rounded outward to whole pages, which risks nothing, as a table is freed only if all of
    its entries are none, those outside the memory included; for the same reason the tables at both
    ends count, though other memory may share them. The buffer is held, so it can't be unmapped by
    its owner, until the call returns.

    `ranges`, pairs of address (page-aligned) and length in bytes, narrow the work down to parts of
    the address space of a process; without them all of its mappings are meant. `levels` are some of
    "pte", "pmd" and "pud", by default all that the module serves. `max_tables` ends the work after
    so many freed tables (`Result.complete` tells), `max_hold_ns` bounds each hold of the target's
    mmap lock, in nanoseconds. With `zero_pages`, entries of private anonymous memory that map the
    shared zero page are dropped first. `progress` is called with the result so far after each
    system call.

    Raises OSError by its subclasses in `cleanup.errors`: ModuleMissing, AbiMismatch, NotPermitted
    (EPERM, EACCES), ProcessGone (ESRCH), Unmapped (ENOMEM, after all the rest is done), Contended
    (EAGAIN), CallFailed (EINVAL, ...). TypeError or ValueError for a target or option
    that can't be meant; BufferError or ValueError for memory that is not contiguous.
    """
    return _run(_zero_pages(zero_pages), target, ranges, levels, max_tables, max_hold_ns, progress)


def _zero_pages(wanted: bool) -> int:
    return _uapi.ZERO_PAGES if wanted else 0


def _run(
    flags: int,
    target: Buffer | int | None,
    ranges: Iterable[loop.Range] | None,
    levels: Iterable[str] | None,
    max_tables: int | None,
    max_hold_ns: int | None,
    progress: loop.Progress | None,
) -> Result:
    for name, value in (("max_tables", max_tables), ("max_hold_ns", max_hold_ns)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    chosen = None if levels is None else level_mask(levels)
    spans: Sequence[loop.Range] | None = None if ranges is None else tuple(ranges)
    with ExitStack() as stack:
        pidfd = -1
        what = "this process"
        if isinstance(target, int):
            what = f"pid {target}"
            if target != os.getpid():
                pidfd = _open_pidfd(target)
                stack.callback(os.close, pidfd)
        elif target is not None:
            if spans is not None:
                raise TypeError("ranges are for a process; a buffer is its own range")
            what = "the buffer"
            spans = (_pages_of(stack.enter_context(memoryview(target))),)
        opened = stack.enter_context(device.opened())
        request = loop.Request(
            what=what,
            flags=flags,
            levels=opened.features.levels if chosen is None else chosen,
            pidfd=pidfd,
            ranges=spans,
            max_tables=max_tables,
            max_hold_ns=max_hold_ns or 0,
        )
        return loop.run(
            partial(_uapi.call, opened.fd),
            request,
            max_ranges=opened.features.max_ranges,
            progress=progress,
        )


def level_mask(levels: Iterable[str]) -> int:
    """The bits of named levels. Raises ValueError for an unknown name, and for none at all."""
    mask = 0
    for level in (levels,) if isinstance(levels, str) else levels:
        if level not in _uapi.LEVELS:
            raise ValueError(f"unknown level {level!r}: the levels are {', '.join(_uapi.LEVELS)}")
        mask |= _uapi.LEVELS[level]
    if not mask:
        raise ValueError(f"no level: name one or more of {', '.join(_uapi.LEVELS)}")
    return mask


def _pages_of(view: memoryview) -> loop.Range:
    """The whole pages that hold the bytes of `view`."""
    start = _uapi.address_of(view)
    first = start - start % mmap.PAGESIZE
    end = start + view.nbytes
    last = end + -end % mmap.PAGESIZE
    return first, last - first if view.nbytes else 0


def _open_pidfd(pid: int) -> int:
    if pid < 1:
        raise ValueError(f"a pid is at least 1, not {pid}")
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise ProcessGone(errno.ESRCH, f"pid {pid}: no such process") from error
    except OSError as error:
        # A process that ends during the call is refused as a thread is.
        if not Path(f"/proc/{pid}").exists():
            raise ProcessGone(errno.ESRCH, f"pid {pid}: no such process") from error
        raise CallFailed(
            error.errno or errno.EINVAL,
            f"pid {pid}: {(error.strerror or 'can not be opened').lower()}: "
            "if it is a thread, name its process",
        ) from error
