# SPDX-License-Identifier: MIT
"""Tests of tables that became empty by page reclaim, by a change of the file, or by other calls.

Each test fills a page in each unit of an area, has one mechanism take some of them away, and
reads in the kernel's pagemap which units still hold an entry.  Only then is the module called:
it must free the tables of the other units and no more, VmPTE must fall by just those, and what
survives must read as it was written, by checksum.
"""

import errno
import fcntl
import hashlib
import mmap
import os
import random
import struct
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from _raw import peek, store, syscall

from cleanup import _uapi
from experiments import oracle
from guest import abi
from guest.layout import (
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_PAGEOUT,
    MADV_REMOVE,
    PAGE,
    SYS_MINCORE,
    SYS_MLOCK,
    UFFD_WRITE_PROTECT,
    UNIT,
    Area,
    anon_huge_bytes,
    area,
    child,
    madvise,
    memfd,
    move_mapping,
    protect,
    punch_hole,
    unmap,
    userfaultfd,
    vmpte,
)

HALF = UNIT // 2
SHARED = mmap.MAP_SHARED
UNITS = 32
ALL = range(UNITS)
EVEN, ODD = range(0, UNITS, 2), range(1, UNITS, 2)


def content(unit: int) -> bytes:
    """Return what `fill` writes to a unit's page: each differs, and none can be compressed."""
    return random.Random(unit).randbytes(PAGE)


def fill(made: Area, units: Collection[int] = ALL, at: int = 0) -> None:
    """Write a page in each of some units, `at` bytes from the unit's start."""
    for unit in units:
        store(made.unit(unit) + at, content(unit))
    assert with_entries(made) >= set(units)


def check(
    made: Area, units: Collection[int] = ALL, *, lost: Collection[int] = (), at: int = 0
) -> None:
    """Check by checksum that pages read as `fill` wrote them, and those lost as zeros."""
    written, found = hashlib.sha256(), hashlib.sha256()
    for unit in units:
        written.update(bytes(PAGE) if unit in lost else content(unit))
        found.update(peek(made.unit(unit) + at, PAGE, 1))
    assert found.hexdigest() == written.hexdigest()


def with_entries(made: Area, pid: int | str = "self") -> set[int]:
    """Return the units of an area in which pagemap shows an entry."""
    fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        units = oracle.read(fd, [(made.addr, made.addr + made.length)])
    finally:
        os.close(fd)
    return {unit - made.addr // UNIT for unit in units}


def reclaim(
    made: Area,
    emptied: Collection[int],
    kept: Mapping[str, int],
    *,
    bare: Collection[int] = (),
    ranges: Sequence[tuple[int, int]] = (),
    pid: int | None = None,
) -> None:
    """Free the tables of the emptied units; for each reason, check how many others are `kept`.

    The `bare` units had no table left before. If the area has holes, `ranges` are the parts of it
    that are mapped. The tables are those of the process `pid`, by default this one.
    """
    assert emptied or kept
    assert with_entries(made, pid or "self") == set(range(made.units)) - {*emptied, *bare}
    pidfd = -1 if pid is None else os.pidfd_open(pid)
    before = vmpte(pid or "self")
    answer = abi.call(abi.Args(list(ranges) or [made.span], pidfd=pidfd))
    fall = before - vmpte(pid or "self")
    if pid:
        os.close(pidfd)
    assert answer.skipped == kept
    assert (answer.empty, answer.freed) == (len(emptied), len(emptied))
    # A unit that a huge page maps has no table in the tree.
    assert answer.tables == made.units - len(bare) - kept.get("thp", 0)
    assert fall == len(emptied) * PAGE


def until(done: Callable[[], bool], attempt: Callable[[], None], what: str) -> None:
    """Repeat an attempt until it is done: reclaim passes over pages that are busy or just used."""
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline, f"not within 120 s: {what}"
        attempt()


def in_memory(made: Area) -> set[int]:
    """Return the units whose filled page is in the page cache or mapped, by mincore()."""
    vector = bytearray(1)
    found = set()
    for unit in range(made.units):
        syscall(SYS_MINCORE, made.unit(unit), PAGE, _uapi.address_of(vector))
        if vector[0] & 1:
            found.add(unit)
    return found


def page_reclaim(cgroup: Path) -> None:
    """Have the kernel reclaim as many pages of a cgroup as it can."""
    try:
        (cgroup / "memory.reclaim").write_text("64M")
    except OSError as error:
        # Where less than 64 MiB can be reclaimed, the kernel answers EAGAIN.
        assert error.errno == errno.EAGAIN


@contextmanager
def file_on(kind: str, request: pytest.FixtureRequest) -> Iterator[int]:
    """Make a file as long as an area, on the scratch ext4 or in memory."""
    if kind == "memfd":
        with memfd(UNITS * UNIT) as fd:
            yield fd
        return
    scratch: Path = request.getfixturevalue("scratch")
    path = scratch / "emptied"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, UNITS * UNIT)
        yield fd
    finally:
        os.close(fd)
        path.unlink()


def test_page_reclaim_of_written_file_pages(cgroup: Path, request: pytest.FixtureRequest) -> None:
    """Dirty pages that were written back and reclaimed leave empty tables, and read from disk."""
    locked = range(0, UNITS, 4)
    emptied = sorted(set(ALL) - set(locked))

    def target(pause: Callable[[], None]) -> None:
        (cgroup / "cgroup.procs").write_text("0")
        fill(made)
        for unit in locked:
            syscall(SYS_MLOCK, made.unit(unit), PAGE)
        pause()
        check(made)

    with file_on("ext4", request) as fd, area(UNITS, SHARED, fd) as made, child(target) as other:
        before = oracle.observe(other.pid)
        assert with_entries(made, other.pid) == set(ALL)
        os.fdatasync(fd)
        until(
            lambda: with_entries(made, other.pid) == in_memory(made) == set(locked),
            lambda: page_reclaim(cgroup),
            "all but the locked pages reclaimed",
        )
        assert oracle.observe(other.pid).empty - before.empty == len(emptied)
        reclaim(made, emptied, {"mapped": len(locked)}, pid=other.pid)
        assert oracle.observe(other.pid).empty == before.empty


def test_pages_freed_lazily_once_reclaimed(cgroup: Path) -> None:
    """MADV_FREE's pages are data until the kernel reclaims them; those written again stay data."""
    rewritten = range(0, UNITS, 4)

    def target(pause: Callable[[], None]) -> None:
        (cgroup / "cgroup.procs").write_text("0")
        fill(made)
        made.release(*ODD, *rewritten, advice=MADV_FREE)
        reclaim(made, (), {"mapped": UNITS})
        check(made)
        fill(made, rewritten)
        pause()
        check(made, lost=ODD)

    with area(UNITS) as made, child(target) as other:
        until(
            lambda: with_entries(made, other.pid) == set(EVEN),
            lambda: page_reclaim(cgroup),
            "the pages given to MADV_FREE reclaimed",
        )
        reclaim(made, ODD, {"mapped": len(EVEN)}, pid=other.pid)


def page_out(made: Area, units: Collection[int]) -> None:
    """Call MADV_PAGEOUT until mincore() finds no filled page of these units in memory."""

    def attempt() -> None:
        left = in_memory(made) & set(units)
        # 7.3 splits large folios first, which only unmaps them: reading maps their pages again.
        check(made, left)
        for unit in left:
            # The whole unit, because faultaround maps pages beside the filled one, too.
            madvise(made.unit(unit), UNIT, MADV_PAGEOUT)

    until(lambda: not in_memory(made) & set(units), attempt, "the units' pages paged out")


def swapped_bytes() -> int:
    """Return how many bytes of all swap devices are in use."""
    lines = Path("/proc/swaps").read_text().splitlines()[1:]
    return sum(int(line.split()[3]) * 1024 for line in lines)


def test_file_pages_paged_out(request: pytest.FixtureRequest) -> None:
    with file_on("ext4", request) as fd, area(UNITS, SHARED, fd) as made:
        fill(made)
        os.fdatasync(fd)
        page_out(made, ODD)
        reclaim(made, ODD, {"mapped": len(EVEN)})
        check(made)


def test_anonymous_memory_paged_out_to_swap_keeps_its_tables(swap: None) -> None:
    with area(UNITS) as made:
        fill(made)
        before = swapped_bytes()
        page_out(made, EVEN)
        assert swapped_bytes() - before >= len(EVEN) * PAGE
        reclaim(made, (), {"swap": len(EVEN), "mapped": len(ODD)})
        made.release(*ODD)
        reclaim(made, ODD, {"swap": len(EVEN)})
        check(made, lost=ODD)


def test_memfd_pages_paged_out_to_swap_leave_nothing_in_the_table(swap: None) -> None:
    """The swap entry is kept by the file, not by the table: a fault brings the data back."""
    with memfd(UNITS * UNIT) as fd, area(UNITS, SHARED, fd) as made:
        fill(made)
        before = swapped_bytes()
        page_out(made, EVEN)
        reclaim(made, EVEN, {"mapped": len(ODD)})
        assert swapped_bytes() - before >= len(EVEN) * PAGE
        assert in_memory(made) == set(ODD)
        check(made)


def by_punching(made: Area, fd: int) -> Collection[int]:
    """Punch holes into the file, page by page, and return the units whose page of data goes."""
    for unit in ODD:
        punch_hole(fd, unit * UNIT, PAGE)
    return ODD


def by_truncating(made: Area, fd: int) -> Collection[int]:
    """Halve the file's length, and return which units lose their page; the VMA stays."""
    os.ftruncate(fd, UNITS // 2 * UNIT)
    return range(UNITS // 2, UNITS)


def by_removing(made: Area, fd: int) -> Collection[int]:
    """Call MADV_REMOVE page by page, and return which units lose their page."""
    made.release(*ODD, advice=MADV_REMOVE)
    return ODD


@pytest.mark.parametrize("kind", ["memfd", "ext4"])
@pytest.mark.parametrize("release", [by_punching, by_truncating, by_removing])
def test_pages_taken_from_the_file(
    kind: str,
    release: Callable[[Area, int], Collection[int]],
    request: pytest.FixtureRequest,
) -> None:
    with file_on(kind, request) as fd, area(UNITS, SHARED, fd) as made:
        fill(made)
        lost = release(made, fd)
        reclaim(made, lost, {"mapped": UNITS - len(lost)})
        check(made, [unit for unit in ALL if unit not in lost])
        os.ftruncate(fd, UNITS * UNIT)  # a read beyond the end would raise SIGBUS
        check(made, lost=lost)


@pytest.mark.parametrize("kind", ["memfd", "ext4"])
def test_private_copies_outlive_a_punched_hole_and_no_truncation(
    kind: str, request: pytest.FixtureRequest
) -> None:
    with file_on(kind, request) as fd, area(UNITS, mmap.MAP_PRIVATE, fd) as made:
        for unit in ALL:
            os.pwrite(fd, content(unit), unit * UNIT)
        check(made)  # reading maps the file's pages
        fill(made, EVEN)  # writing copies them
        for unit in ALL:
            punch_hole(fd, unit * UNIT, UNIT)
        reclaim(made, ODD, {"mapped": len(EVEN)})
        check(made, EVEN)
        os.ftruncate(fd, 0)
        reclaim(made, EVEN, {}, bare=ODD)
        os.ftruncate(fd, UNITS * UNIT)
        check(made, lost=ALL)


def pieces(made: Area, units: Collection[int], start: int, end: int) -> list[tuple[int, int]]:
    """Return the bytes from start to end of each of the units, as ranges."""
    return [(made.unit(unit) + start, end - start) for unit in units]


def test_partial_munmap() -> None:
    """A half of each unit is unmapped: its table is freed if that half held the data."""
    with area(UNITS) as made:
        fill(made)
        for addr, length in pieces(made, ODD, 0, HALF) + pieces(made, EVEN, HALF, UNIT):
            unmap(addr, length)
        left = pieces(made, ODD, HALF, UNIT) + pieces(made, EVEN, 0, HALF)
        reclaim(made, ODD, {"mapped": len(EVEN)}, ranges=left)
        check(made, EVEN)
        fill(made, ODD, at=HALF)
        check(made, ODD, at=HALF)


def test_vma_split_inside_a_table_with_data_in_one_part() -> None:
    """Three VMAs share each table, by mprotect(); any one of them may hold its data."""
    offsets = (0, 8 * PAGE, 9 * PAGE)
    with area(UNITS) as made:
        for unit in ALL:
            fill(made, [unit], at=offsets[unit % 3])
            protect(made.unit(unit) + offsets[1], PAGE, mmap.PROT_READ)
        lost = [unit for unit in ALL if unit % 4]
        for unit in lost:
            madvise(made.unit(unit) + offsets[unit % 3], PAGE, MADV_DONTNEED)
        kept = sorted(set(ALL) - set(lost))
        assert {unit % 3 for unit in kept} == {unit % 3 for unit in lost} == {0, 1, 2}
        reclaim(made, lost, {"mapped": len(kept)})
        for unit in ALL:
            check(made, [unit], lost=lost, at=offsets[unit % 3])


def test_guard_pages_come_and_gone(series: str) -> None:
    with area(UNITS) as made:
        fill(made)
        try:
            made.release(*ODD, advice=MADV_GUARD_INSTALL)
        except OSError as error:
            assert error.errno == errno.EINVAL
            assert series in ("6.1", "6.12")
            pytest.skip(f"Linux {series} has no guard pages (MADV_GUARD_INSTALL is of 6.13)")
        reclaim(made, (), {"marker": len(ODD), "mapped": len(EVEN)})
        made.release(*ODD, advice=MADV_GUARD_REMOVE)
        reclaim(made, ODD, {"mapped": len(EVEN)})
        check(made, lost=ODD)


@pytest.mark.parametrize("unregister", [True, False], ids=["unregistered", "closed"])
def test_write_protection_markers_come_and_gone(unregister: bool, series: str) -> None:
    """userfaultfd keeps a shared page write-protected by a marker while no page is mapped."""
    write_protect, of_shmem = 0xC018AA06, 1 << 12
    tracked = range(UNITS // 2)
    others = range(UNITS // 2, UNITS)
    with memfd(UNITS * UNIT) as fd, area(UNITS, SHARED, fd) as made:
        fill(made)
        length = len(tracked) * UNIT
        with userfaultfd(
            made.addr, length, UFFD_WRITE_PROTECT, of_shmem, unregister=unregister
        ) as tracker:
            protected = struct.pack("=QQQ", made.addr, length, 1)
            fcntl.ioctl(tracker, write_protect, bytearray(protected))
            made.release()
            reclaim(made, others, {"uffd": len(tracked)})
        if series == "6.1" and not unregister:
            # 6.1 leaves the markers of a closed descriptor behind; a fault clears them.
            reclaim(made, (), {"marker": len(tracked)}, bare=others)
        else:
            reclaim(made, tracked, {}, bare=others)
        check(made)


@pytest.mark.parametrize("stays", [False, True], ids=["unmapped", "MREMAP_DONTUNMAP"])
def test_entries_moved_out_of_the_table(stays: bool) -> None:
    """A table is freed once mremap() has moved its pages away, if a VMA still overlaps it."""
    with area(UNITS) as made, area(UNITS) as there:
        fill(made)
        for unit in ODD:
            move_mapping(made.unit(unit), PAGE, there.unit(unit), 4 if stays else 0)
        left = pieces(made, EVEN, 0, UNIT) + pieces(made, ODD, 0 if stays else PAGE, UNIT)
        reclaim(made, ODD, {"mapped": len(EVEN)}, ranges=left)
        assert with_entries(there) == set(ODD)
        check(there, ODD)
        check(made, EVEN)
        if stays:
            check(made, ODD, lost=ODD)


THP = Path("/sys/kernel/mm/transparent_hugepage")


def by_call(made: Area, units: Collection[int]) -> None:
    """Call MADV_COLLAPSE on each unit."""
    for unit in units:
        madvise(made.unit(unit), UNIT, MADV_COLLAPSE)


def by_khugepaged(made: Area, units: Collection[int]) -> None:
    """Have khugepaged, the kernel's thread, collapse the units without sleeping in between."""
    knobs = {"scan_sleep_millisecs": "1", "alloc_sleep_millisecs": "1", "pages_to_scan": "65536"}
    before = {name: (THP / "khugepaged" / name).read_text() for name in knobs}
    for name, value in knobs.items():
        (THP / "khugepaged" / name).write_text(value)
    try:
        until(
            lambda: anon_huge_bytes(made) >= len(units) * UNIT,
            lambda: time.sleep(0.05),
            "khugepaged made huge pages",
        )
    finally:
        for name, value in before.items():
            (THP / "khugepaged" / name).write_text(value)


@pytest.mark.parametrize("collapse", [by_call, by_khugepaged])
def test_tables_deposited_under_huge_pages_are_not_empty_ones(
    collapse: Callable[[Area, Collection[int]], None],
) -> None:
    """A deposited table counts in VmPTE and is out of reach until its huge page is split."""
    with area(UNITS) as made:
        fill(made)
        made.release(*ODD)
        peak = vmpte()
        madvise(made.addr, made.length, MADV_HUGEPAGE)
        collapse(made, EVEN)
        madvise(made.addr, made.length, MADV_NOHUGEPAGE)
        assert anon_huge_bytes(made) == len(EVEN) * UNIT
        assert vmpte() == peak, "each huge page keeps a table"
        reclaim(made, ODD, {"thp": len(EVEN)})
        assert anon_huge_bytes(made) == len(EVEN) * UNIT
        check(made, EVEN)

        # Giving back a part of a huge page splits it: its deposited table is in the tree again.
        split, whole = EVEN[::2], EVEN[1::2]
        before = vmpte()
        for addr, length in pieces(made, split, HALF, UNIT):
            madvise(addr, length, MADV_DONTNEED)
        assert anon_huge_bytes(made) == len(whole) * UNIT
        reclaim(made, (), {"thp": len(whole), "mapped": len(split)}, bare=ODD)
        check(made, EVEN)
        for addr, length in pieces(made, split, 0, HALF):
            madvise(addr, length, MADV_DONTNEED)
        assert vmpte() == before
        reclaim(made, split, {"thp": len(whole)}, bare=ODD)

        # Unmapping a part of the huge pages that are left splits them, too.
        before = vmpte()
        for addr, length in pieces(made, whole, HALF, UNIT):
            unmap(addr, length)
        left = pieces(made, whole, 0, HALF)
        reclaim(made, (), {"mapped": len(whole)}, bare=[*ODD, *split], ranges=left)
        check(made, whole)
        for addr, length in left:
            madvise(addr, length, MADV_DONTNEED)
        assert vmpte() == before
        reclaim(made, whole, {}, bare=[*ODD, *split], ranges=left)
        check(made, whole, lost=whole)


def test_huge_pages_of_a_file_deposit_no_table() -> None:
    with memfd(UNITS * UNIT) as fd, area(UNITS, SHARED, fd) as made:
        fill(made)
        for unit in ODD:
            punch_hole(fd, unit * UNIT, UNIT)
        peak = vmpte()
        madvise(made.addr, made.length, MADV_HUGEPAGE)
        by_call(made, EVEN)
        assert with_entries(made) == set(EVEN)
        assert peak - vmpte() == len(EVEN) * PAGE, "a huge page of a file keeps no table"
        reclaim(made, ODD, {"thp": len(EVEN)})
        check(made, lost=ODD)
