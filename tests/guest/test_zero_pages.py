# SPDX-License-Identifier: MIT
"""Tests that tables of zero pages alone are freed when asked for, unless an entry is needed."""

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from _raw import peek, poke, syscall

from cleanup import _uapi
from guest import abi
from guest.layout import (
    ANON,
    MADV_DONTNEED,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    PAGE,
    UNIT,
    Area,
    area,
    child,
    madvise,
    map_at,
    memfd,
    punch_hole,
    reserved,
    userfaultfd,
    vmpte,
)

KSM = Path("/sys/kernel/mm/ksm")
MADV_MERGEABLE, MADV_UNMERGEABLE = 12, 13
SYS_MREMAP, SYS_MLOCK = 25, 149
MREMAP_MAYMOVE_FIXED = 3


def read(made: Area) -> bytes:
    """Read a byte of each unit, which maps the zero page where no page is mapped."""
    return made.values()


def dropping(made: Area, **fields: int) -> abi.Answer:
    """Reclaim an area's PTE tables, zero pages included."""
    return abi.call(abi.Args([made.span], flags=_uapi.ZERO_PAGES, **fields))  # type: ignore[arg-type]


def test_only_when_asked() -> None:
    with area(64) as made:
        assert read(made) == bytes(64)
        answer = abi.call(abi.Args([made.span]))
        assert (answer.freed, answer.zero_pages_dropped) == (0, 0)
        assert answer.skipped == {"mapped": 64}
        scan = abi.call(abi.Args([made.span], flags=_uapi.ZERO_PAGES | _uapi.SCAN_ONLY))
        assert (scan.empty, scan.freed, scan.zero_pages_dropped) == (64, 0, 0)
        before = vmpte()
        answer = dropping(made)
        assert (answer.empty, answer.freed, answer.zero_pages_dropped) == (64, 64, 64)
        assert before - vmpte() == 64 * PAGE
        assert read(made) == bytes(64)
        made.touch(9)
        assert made.values() == bytes([9] * 64)


def test_a_table_full_of_zero_pages() -> None:
    with area(2) as made:
        assert peek(made.addr, 1024, PAGE) == bytes(1024)
        answer = dropping(made)
        assert (answer.freed, answer.zero_pages_dropped) == (2, 1024)
        assert peek(made.addr, 1024, PAGE) == bytes(1024)


def test_beside_data_they_stay() -> None:
    with area(32) as made:
        read(made)
        poke(made.addr + 5 * PAGE, 8, UNIT, 7)
        answer = dropping(made)
        assert (answer.freed, answer.skipped) == (24, {"mapped": 8})
        assert answer.zero_pages_dropped == 24
        assert peek(made.addr + 5 * PAGE, 8, UNIT) == bytes([7] * 8)


def test_beside_swapped_out_data_they_stay(swap: None) -> None:
    with area(4) as made:
        poke(made.addr + PAGE, 4, UNIT, 7)
        for index in range(4):
            madvise(made.unit(index) + PAGE, PAGE, 21)  # MADV_PAGEOUT
        read(made)
        answer = dropping(made)
        assert (answer.freed, answer.zero_pages_dropped, answer.skipped) == (0, 0, {"swap": 4})
        assert peek(made.addr + PAGE, 4, UNIT) == bytes([7] * 4)


def test_empty_tables_go_in_the_same_call_and_all_levels() -> None:
    gib = 1 << 30
    with area(2 * gib // UNIT, align=gib) as made:
        made.touch(first=0, count=8)
        made.release(*range(8))
        peek(made.addr + gib, 8, UNIT)
        answer = dropping(made, levels=abi.ALL_LEVELS)
        assert (answer.freed, answer.zero_pages_dropped) == (16, 8)
        assert answer.upper_freed[0] == 2


def test_in_a_file_mapping_they_are_data() -> None:
    """Over a private memfd a zero page of UFFDIO_ZEROPAGE stays: it hides what the file holds."""
    zeropage = 0xC020AA04
    with memfd(UNIT) as file, reserved(1) as made:
        os.pwrite(file, b"\5", 0)
        map_at(made.addr, UNIT, mmap.MAP_PRIVATE, file)
        with userfaultfd(made.addr, UNIT) as fd:
            # UFFDIO_ZEROPAGE fills only missing pages: in a mapping of a file these are its holes.
            punch_hole(file, 0, PAGE)
            fcntl.ioctl(fd, zeropage, bytearray(struct.pack("=QQQq", made.addr, PAGE, 0, 0)))
        os.pwrite(file, b"\5", 0)
        assert peek(made.addr, 1, 1) == b"\0"
        answer = dropping(made)
        assert (answer.freed, answer.skipped) == (0, {"mapped": 1})
        assert peek(made.addr, 1, 1) == b"\0"


def test_in_locked_memory_they_stay() -> None:
    with reserved(8) as made:
        map_at(made.addr, made.length, ANON, prot=mmap.PROT_READ)
        madvise(made.addr, made.length, MADV_NOHUGEPAGE)
        read(made)
        # One locked page is enough to keep its table.
        syscall(SYS_MLOCK, made.unit(3) + PAGE, PAGE)
        answer = dropping(made)
        assert (answer.freed, answer.skipped) == (7, {"locked": 1})
        assert answer.zero_pages_dropped == 7


def test_under_userfaultfd_they_stay() -> None:
    with area(4) as made:
        read(made)
        with userfaultfd(made.unit(1), PAGE):
            answer = dropping(made)
            assert (answer.freed, answer.skipped) == (3, {"uffd": 1})


def test_moved_ones_stay() -> None:
    """Zero pages that mremap() moved stay: it marks them soft-dirty, that is, as changed."""
    with reserved(1) as source, area(1) as made:
        map_at(source.addr, UNIT, ANON)
        madvise(source.addr, UNIT, MADV_NOHUGEPAGE)
        peek(source.addr, 4, PAGE)
        # Half a unit is moved: for a whole one the kernel would move the table itself.
        syscall(SYS_MREMAP, source.addr, UNIT // 2, UNIT // 2, MREMAP_MAYMOVE_FIXED, made.addr)
        if not int.from_bytes(_pagemap(made.addr), "little") >> 55 & 1:
            pytest.skip("this kernel does not track soft-dirty pages")
        answer = dropping(made)
        assert (answer.freed, answer.skipped) == (0, {"mapped": 1})


def _pagemap(addr: int) -> bytes:
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(addr // PAGE * 8)
        return pagemap.read(8)


@contextmanager
def ksm() -> Iterator[None]:
    """Have KSM run, and replace pages full of zeros by zero pages."""
    before = {name: (KSM / name).read_text() for name in ("run", "sleep_millisecs")}
    (KSM / "use_zero_pages").write_text("1")
    (KSM / "sleep_millisecs").write_text("1")
    (KSM / "pages_to_scan").write_text("1000")
    (KSM / "run").write_text("1")
    try:
        yield
    finally:
        # 2 stops KSM and undoes what it merged.
        (KSM / "run").write_text("2")
        (KSM / "use_zero_pages").write_text("0")
        for name, value in before.items():
            (KSM / name).write_text(value)


def test_those_of_ksm_stay(series: str) -> None:
    """Zero pages that KSM placed stay; before 6.6, all zero pages in mergeable memory do."""
    units, kept = 16, 4
    counter = KSM / "ksm_zero_pages"
    with ksm(), area(units) as made:
        # The first units get pages full of zeros, for KSM; the rest is only read, further down.
        poke(made.addr, kept, UNIT, 0)
        madvise(made.addr, kept * UNIT, MADV_MERGEABLE)
        frames = zero_frames(made, kept)
        deadline = time.monotonic() + 120
        while len(frames) < kept and time.monotonic() < deadline:
            time.sleep(0.1)
            frames = zero_frames(made, kept)
        assert len(frames) == kept, "KSM merged nothing within two minutes"
        (KSM / "run").write_text("0")
        if series != "6.1":
            assert int(counter.read_text()) == kept
        peek(made.unit(kept), units - kept, UNIT)
        answer = dropping(made)
        assert (answer.freed, answer.skipped) == (units - kept, {"ksm_zero": kept})
        assert answer.zero_pages_dropped == units - kept
        if series != "6.1":
            assert int(counter.read_text()) == kept
        assert made.values() == bytes(units)
        made.touch(4)
        assert made.values() == bytes([4] * units)
        if series != "6.1":
            assert int(counter.read_text()) == 0


def zero_frames(made: Area, units: int) -> list[int]:
    """Return which of the first `units` units begin with a zero page, by /proc/kpageflags."""
    found = []
    with Path("/proc/kpageflags").open("rb", buffering=0) as flags:
        for index in range(units):
            frame = int.from_bytes(_pagemap(made.unit(index)), "little") & ((1 << 55) - 1)
            flags.seek(frame * 8)
            if int.from_bytes(flags.read(8), "little") >> 24 & 1:
                found.append(index)
    return found


def test_the_huge_zero_page_is_told_apart() -> None:
    enabled = Path("/sys/kernel/mm/transparent_hugepage/use_zero_page")
    assert enabled.read_text().strip() == "1"
    with reserved(6) as made:
        map_at(made.addr, made.length, ANON)
        madvise(made.addr, made.length, MADV_HUGEPAGE)
        made.touch(5, first=0, count=2)
        peek(made.unit(2), 2, UNIT)
        madvise(made.unit(4), 2 * UNIT, MADV_NOHUGEPAGE)
        peek(made.unit(4), 2, UNIT)
        before = vmpte()
        answer = dropping(made)
        assert answer.skipped == {"thp": 2, "huge_zero": 2}
        assert (answer.tables, answer.freed, answer.zero_pages_dropped) == (2, 2, 2)
        assert before - vmpte() == 2 * PAGE
        assert made.values() == bytes([5, 5, 0, 0, 0, 0])


def test_of_another_process_and_its_children() -> None:
    """Dropping zero pages of a forked child leaves those of its parent in place."""

    def target(pause: Callable[[], None]) -> None:
        pause()
        assert made.values() == bytes([1] + [0] * 31)
        made.touch(2)
        pause()
        assert made.values() == bytes([2] * 32)

    with area(32) as made:
        made.touch(1, first=0, count=1)
        read(made)
        with child(target) as other:
            pidfd = os.pidfd_open(other.pid)
            args = abi.Args([made.span], flags=_uapi.ZERO_PAGES, pidfd=pidfd)
            assert abi.call(args).zero_pages_dropped == 31
            other.resume()
            other.wait_ready()
            assert abi.call(args).zero_pages_dropped == 0
            os.close(pidfd)
        assert dropping(made).zero_pages_dropped == 31
        assert made.values() == bytes([1] + [0] * 31)


def test_none_is_lost_by_releasing_beside() -> None:
    """A table is judged rightly where released pages, zero pages and data lie side by side."""
    with area(16) as made:
        for page in range(8):
            poke(made.addr + page * PAGE, 16, UNIT, page + 1)
        for page in range(0, 8, 2):
            for index in range(16):
                madvise(made.unit(index) + page * PAGE, PAGE, MADV_DONTNEED)
        peek(made.addr, 16, UNIT)
        assert dropping(made).freed == 0
        for index in range(16):
            madvise(made.unit(index) + PAGE, 7 * PAGE, MADV_DONTNEED)
        answer = dropping(made)
        assert (answer.freed, answer.zero_pages_dropped) == (16, 16)
