# SPDX-License-Identifier: MIT
"""Address-space layouts with a known number of PTE tables, and what the kernel tells of them."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from _raw import peek, poke, syscall

from cleanup import _uapi

UNIT = 2 << 20  # the bytes that one PTE table maps
GIB = 1 << 30  # the bytes that one PMD table maps
PUD_SPAN = 512 * GIB  # the bytes that one PUD table maps
PAGE = mmap.PAGESIZE

PROT_NONE, PROT_RW = 0, mmap.PROT_READ | mmap.PROT_WRITE
MAP_FIXED, MAP_NORESERVE = 0x10, 0x4000
ANON = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
SHARED_ANON = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | MAP_NORESERVE

SYS_MMAP, SYS_MPROTECT, SYS_MUNMAP, SYS_MADVISE, SYS_FALLOCATE = 9, 10, 11, 28, 285
SYS_MREMAP, SYS_MINCORE, SYS_MLOCK, SYS_USERFAULTFD = 25, 27, 149, 323
SYS_IO_SETUP, SYS_IO_DESTROY = 206, 207

MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_HUGEPAGE, MADV_NOHUGEPAGE = 4, 8, 9, 14, 15
MADV_PAGEOUT, MADV_COLLAPSE, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE = 21, 25, 102, 103
UFFD_MISSING, UFFD_WRITE_PROTECT = 1, 2  # UFFDIO_REGISTER_MODE_*
PUNCH_HOLE = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


@dataclass(frozen=True)
class Area:
    """Memory that starts on a 2 MiB boundary, inside a PROT_NONE reservation of its own.

    The reservation keeps a unit free on either side, so that no other mapping shares a table.
    """

    addr: int
    units: int

    @property
    def length(self) -> int:
        return self.units * UNIT

    @property
    def span(self) -> tuple[int, int]:
        """The area's address and length, as scan and reclaim take a range."""
        return self.addr, self.length

    def unit(self, index: int) -> int:
        """Return the address of a unit."""
        return self.addr + index * UNIT

    def touch(self, value: int = 1, *, first: int = 0, count: int | None = None) -> None:
        """Write a byte to the first page of each of some units, which makes a table for each."""
        poke(self.unit(first), self.units - first if count is None else count, UNIT, value)

    def values(self) -> bytes:
        """Return the first byte of each unit, which is the one that `touch` writes."""
        return peek(self.addr, self.units, UNIT)

    def release(self, *units: int, advice: int = MADV_DONTNEED) -> None:
        """Give back the touched page of some units, or of all, by one madvise() for each."""
        for index in units or range(self.units):
            madvise(self.unit(index), PAGE, advice)


def map_at(
    addr: int, length: int, flags: int, fd: int = -1, offset: int = 0, prot: int = PROT_RW
) -> int:
    """Call mmap() with MAP_FIXED."""
    return syscall(SYS_MMAP, addr, length, prot, flags | MAP_FIXED, fd, offset)


def unmap(addr: int, length: int) -> None:
    """Call munmap()."""
    syscall(SYS_MUNMAP, addr, length)


def protect(addr: int, length: int, prot: int) -> None:
    """Call mprotect(), which splits a VMA where it changes only a part."""
    syscall(SYS_MPROTECT, addr, length, prot)


def madvise(addr: int, length: int, advice: int) -> None:
    """Call madvise()."""
    syscall(SYS_MADVISE, addr, length, advice)


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Drop the pages of a part of a file, from every mapping of them too."""
    syscall(SYS_FALLOCATE, fd, PUNCH_HOLE, offset, length)


@contextmanager
def reserved(units: int, align: int = UNIT) -> Iterator[Area]:
    """Reserve address space for an area, none of which is accessible yet.

    If `align` is what one table of a level maps, no mapping shares tables of that level with it.
    The area is aligned to its own length at least, up to what a PUD table maps, so that the number
    of its upper tables doesn't depend on where it lies. If it fills only a part of a PUD table, a
    touched page beside it keeps that table.
    """
    align = max(align, min(1 << (units * UNIT - 1).bit_length(), PUD_SPAN))
    length = units * UNIT + 3 * align
    base = syscall(SYS_MMAP, 0, length, PROT_NONE, ANON, -1, 0)
    made = Area(base + align + -base % align, units)
    try:
        if GIB <= align < PUD_SPAN:
            beside = made.addr - PAGE if made.addr % PUD_SPAN else made.addr + made.length
            map_at(beside, PAGE, ANON)
            poke(beside, 1, 1, 1)
        yield made
    finally:
        unmap(base, length)


@contextmanager
def area(units: int, flags: int = ANON, fd: int = -1, align: int = UNIT) -> Iterator[Area]:
    """Map an area that gets no huge pages."""
    with reserved(units, align) as made:
        map_at(made.addr, made.length, flags, fd)
        madvise(made.addr, made.length, MADV_NOHUGEPAGE)
        yield made


@contextmanager
def memfd(length: int) -> Iterator[int]:
    """Make a file in memory."""
    fd = os.memfd_create("tests")
    try:
        os.ftruncate(fd, length)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def userfaultfd(
    addr: int,
    length: int,
    mode: int = UFFD_MISSING,
    features: int = 0,
    *,
    unregister: bool = True,
) -> Iterator[int]:
    """Register a range with userfaultfd; in the end unregister it, or just close the descriptor."""
    ioctl_api, ioctl_register, ioctl_unregister = 0xC018AA3F, 0xC020AA00, 0x8010AA01
    fd = syscall(SYS_USERFAULTFD, os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, ioctl_api, bytearray(struct.pack("=QQQ", 0xAA, features, 0)))
        fcntl.ioctl(fd, ioctl_register, bytearray(struct.pack("=QQQQ", addr, length, mode, 0)))
        yield fd
        if unregister:
            fcntl.ioctl(fd, ioctl_unregister, bytearray(struct.pack("=QQ", addr, length)))
    finally:
        os.close(fd)


def move_mapping(source: int, length: int, target: int, flags: int = 0) -> None:
    """Move a mapping to a fixed address by mremap()."""
    may_move_to_fixed = 1 | 2  # MREMAP_MAYMOVE | MREMAP_FIXED
    syscall(SYS_MREMAP, source, length, length, may_move_to_fixed | flags, target)


@contextmanager
def aio_ring(addr: int, events: int = 1) -> Iterator[None]:
    """Map the completion ring of an AIO context over whatever is mapped at an address.

    Its VMA is VM_DONTEXPAND, and neither VM_PFNMAP nor VM_MIXEDMAP nor VM_IO. An event takes 64
    bytes; the ring has room for more than a hundred, and for 65536 at most.
    """
    context = bytearray(8)
    syscall(SYS_IO_SETUP, events, _uapi.address_of(context))
    ring = int.from_bytes(context, "little")
    try:
        line = next(
            line
            for line in Path("/proc/self/maps").read_text().splitlines()
            if line.startswith(f"{ring:x}-")
        )
        end = int(line.split()[0].partition("-")[2], 16)
        move_mapping(ring, end - ring, addr)
        ring = addr
        yield
    finally:
        syscall(SYS_IO_DESTROY, ring)


def anon_huge_bytes(made: Area) -> int:
    """Return how many bytes of an area anonymous huge pages map; the area must be one VMA."""
    for block in Path("/proc/self/smaps").read_text().split("VmFlags")[:-1]:
        if f"{made.addr:x}-" in block:
            line = next(line for line in block.splitlines() if line.startswith("AnonHugePages"))
            return int(line.split()[1]) * 1024
    raise AssertionError("the area is not in smaps")


def vmpte(pid: int | str = "self") -> int:
    """Return the bytes of all page tables of a process."""
    with Path(f"/proc/{pid}/status").open("rb") as status:
        for line in status:
            if line.startswith(b"VmPTE:"):
                return int(line.split()[1]) * 1024
    raise AssertionError(f"no VmPTE in /proc/{pid}/status")


class Child:
    """A forked process that does some work and sleeps on a pipe, where it is a quiescent target.

    `work` gets a function that reports readiness and waits until the parent calls `resume`.
    """

    def __init__(self, work: Callable[[Callable[[], None]], None]) -> None:
        """Fork, and wait until the child reports for the first time."""
        ready_r, self._ready_w = os.pipe()
        self._go_r, self._go_w = os.pipe()
        self._ready = ready_r
        self.pid = os.fork()
        if self.pid == 0:
            self._run(work)
        os.close(self._ready_w)
        os.close(self._go_r)
        self.wait_ready()

    def _run(self, work: Callable[[Callable[[], None]], None]) -> None:
        os.close(self._ready)
        os.close(self._go_w)

        def pause() -> None:
            os.write(self._ready_w, b".")
            os.read(self._go_r, 1)

        code = 1
        try:
            work(pause)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def wait_ready(self) -> None:
        """Wait for the child's next report."""
        assert os.read(self._ready, 1) == b".", "the child died before it was ready"

    def resume(self) -> None:
        """Let the child go on."""
        os.write(self._go_w, b".")

    def ended(self) -> bool:
        """Return whether the child has ended and is only to be reaped."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def finish(self) -> int:
        """Let the child go on to its end, and return its wait status."""
        self.resume()
        return self.reap()

    def kill(self) -> None:
        """Send the child SIGKILL."""
        os.kill(self.pid, 9)

    def reap(self) -> int:
        """Wait for the child's end, and return its wait status."""
        os.close(self._ready)
        os.close(self._go_w)
        return os.waitpid(self.pid, 0)[1]


@contextmanager
def child(work: Callable[[Callable[[], None]], None]) -> Iterator[Child]:
    """Fork a `Child`, which is killed if the test fails; if not, its work must end well."""
    made = Child(work)
    try:
        yield made
    except BaseException:
        made.kill()
        made.reap()
        raise
    assert made.finish() == 0, "the child's own checks failed"
