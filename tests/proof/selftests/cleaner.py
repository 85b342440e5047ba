# SPDX-License-Identifier: MIT
"""A process that frees the empty tables of all processes, as root and without pause."""

import errno
import mmap
import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from cleanup import _uapi, device
from cleanup.errors import Contended, ProcessGone
from cleanup.request import Request, carry_out
from cleanup.result import Levels


class Cleaner:
    """A cleaner, which works in a process of its own, and its counts."""

    def __init__(self) -> None:
        # The cleaner's process shares this memory.
        self._counts = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        self._pid = 0

    @property
    def rounds(self) -> int:
        """Return how often the cleaner went over all processes."""
        return self._counts[0]

    @property
    def freed(self) -> tuple[int, ...]:
        """Return how many tables the cleaner freed, by level: PTE, PMD, PUD."""
        return tuple(self._counts[1 : 1 + len(_uapi.LEVELS)])

    @contextmanager
    def working(self) -> Iterator[None]:
        """Have the cleaner work while the block runs."""
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._work()
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        try:
            yield
        finally:
            if self._pid:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)

    def check(self) -> None:
        """Raise RuntimeError if the cleaner was started and has stopped by itself."""
        if self._pid and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._pid = 0
            raise RuntimeError("the cleaner stopped by itself")

    def _work(self) -> None:
        spared = {os.getpid(), *_without_memory()}
        with device.opened() as opened:
            while True:
                for pid in _processes() - spared:
                    freed = _reclaim(opened, pid)
                    for number, count in enumerate((freed.pte, freed.pmd, freed.pud), start=1):
                        self._counts[number] += count
                self._counts[0] += 1


def _reclaim(opened: device.Device, pid: int) -> Levels:
    """Free every empty table of a process, and return how many: none if it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        # EINVAL: the pid is not free yet, but its process is gone.
        if error.errno not in (errno.ESRCH, errno.EINVAL):
            raise
        return Levels()
    request = Request(
        what=f"pid {pid}",
        flags=0,
        levels=opened.features.levels,
        pidfd=pidfd,
        ranges=None,
        max_tables=None,
        max_hold_ns=0,
    )
    try:
        call = partial(_uapi.call, opened.fd)
        return carry_out(call, request, max_ranges=opened.features.max_ranges, progress=None).freed
    except (Contended, ProcessGone) as error:
        return error.result.freed if error.result else Levels()
    finally:
        os.close(pidfd)


def _processes() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208


def _without_memory() -> set[int]:
    """Return the pids of the kernel's threads, which have no page tables of their own."""
    threads = set()
    for pid in _processes():
        try:
            os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115
        except OSError:
            threads.add(pid)
    return threads
