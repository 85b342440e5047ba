# SPDX-License-Identifier: MIT
"""A race in which a zero read after a synchronised write would show that the flush came late.

A reader maps the zero page of 64 tables and so has them in its CPU's TLB; a writer then writes to
each and tells the reader, which looks again at once.  Meanwhile a third CPU drops the zero
pages.  Were a fault let in between the drop and the flush, the writer's page would be mapped
beside what the reader's TLB still says, and the reader would see zeros after a synchronised write.
"""

import os
import threading
from dataclasses import dataclass

from _raw import call_beside, read_behind_writer, shared_words, write_behind_reader

from cleanup import _uapi
from guest import abi
from guest.layout import PAGE, UNIT, area

CPUS = 3
PAGES = 64
# A different page of each table, never the first: no two then share a place in the TLB, and a flush
# of one address for each table, not of each page, would leave all translations in it.
STRIDE = UNIT + PAGE


@dataclass(frozen=True)
class Seen:
    """The outcome of a race of `batches` times PAGES rounds."""

    not_zero: int
    """How many pages did not read as zero after they were released."""
    stale: int
    """How many zeros the reader saw after a write."""
    dropped: int
    """How many zero pages the module dropped."""


def race(units: int, batches: int, wait_us: int = 0) -> Seen:
    """Run the race on CPUs 0 to 2, with calls whose ranges span `units` tables each.

    When a call has begun, the writer waits `wait_us` microseconds before its first write.
    """
    shared = memoryview(shared_words()).cast("Q")
    found: list[tuple[int, int]] = []
    with area(PAGES) as made:

        def read() -> None:
            os.sched_setaffinity(0, {2})
            found.append(read_behind_writer(made.addr + PAGE, PAGES, STRIDE, batches, shared))

        def write() -> None:
            os.sched_setaffinity(0, {1})
            write_behind_reader(made.addr + PAGE, PAGES, STRIDE, batches, shared, wait_us)

        threads = [threading.Thread(target=work) for work in (read, write)]
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {0})
        fd = _uapi.open_device()
        try:
            for thread in threads:
                thread.start()
            ranges = [(made.unit(first), units * UNIT) for first in range(0, PAGES, units)]
            args = abi.Args(ranges, flags=_uapi.ZERO_PAGES)
            packed = abi.pack_ranges(args)
            dropped = call_beside(
                fd,
                _uapi.IOC_RECLAIM,
                abi.pack(args, packed),
                abi.ZERO_PAGES_DROPPED,
                batches,
                shared,
            )
        finally:
            os.close(fd)
            for thread in threads:
                thread.join()
            os.sched_setaffinity(0, everywhere)
    return Seen(*found[0], dropped)
