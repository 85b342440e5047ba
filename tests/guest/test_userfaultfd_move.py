# SPDX-License-Identifier: MIT
"""A test that UFFDIO_MOVE moves all pages while the module frees empty tables of its source."""

import os
import threading
import time

import pytest

from guest import abi
from guest.layout import UFFD_WRITE_PROTECT, area, userfaultfd
from guest.moves import move_with_holes

SECONDS = 5.0


def test_a_move_out_of_memory_that_is_not_registered(series: str) -> None:
    """All pages arrive; on 7.3 a move may stop early, on 6.12 VMA locks keep the module out."""
    if series == "6.1":
        pytest.skip("UFFDIO_MOVE is of Linux 6.8")
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one CPU can't move and clean at once")
    done = threading.Event()
    freed: list[int] = []
    with area(16) as source, area(16) as target:
        args = abi.Args([source.span])

        def clean() -> None:
            while not done.is_set():
                freed.append(abi.call(args).freed)

        cleaner = threading.Thread(target=clean)
        stops = rounds = 0
        with userfaultfd(*target.span, UFFD_WRITE_PROTECT) as fd:
            cleaner.start()
            try:
                end = time.monotonic() + SECONDS
                while time.monotonic() < end:
                    stops += move_with_holes(fd, target, source, rounds % 255 + 1)
                    rounds += 1
            finally:
                done.set()
                cleaner.join()
    assert sum(freed) > rounds > 0, f"{freed} tables freed in {rounds} rounds are too few"
    if series != "7.3":
        assert stops == 0
