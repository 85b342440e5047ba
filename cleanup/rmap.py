# SPDX-License-Identifier: MIT
"""Finds the processes that map a file, and where: the reverse mapping, as /proc shows it."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from cleanup import _mapping
from cleanup.ranges import Range

Refused = Callable[[int, PermissionError], object]


class Mapper(NamedTuple):
    """A process that maps the file, and where it does.

    `ranges` ascend. Neighbours are joined: a mapping that is split into several VMAs is one range.
    """

    pid: int
    ranges: tuple[Range, ...]


def mappers(path: str | os.PathLike[str], *, refused: Refused | None = None) -> list[Mapper]:
    """Return the processes that map a regular file or memfd, in ascending order of pid.

    Shared and private mappings both count. After PUNCH_HOLE in one process, all of these processes
    have empty tables::

        for pid, ranges in cleanup.mappers(f"/proc/self/fd/{memfd}"):
            cleanup.reclaim(pid, ranges=ranges)

    Another user's mappings may not be read without the right to ptrace the process. A mapping that
    is made or removed during the call may be listed or not.

    :param path: the file, which is opened for reading; /proc/PID/fd/N names memfds and deleted
        files, too
    :param refused: called with the pid and the error of each process whose mappings may not be
        read, whether it maps the file or not
    :raises OSError: the file can't be opened
    :raises ValueError: it is no regular file
    """
    # Look before opening: opening a device or a FIFO may have effects, or wait.
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise ValueError(f"{os.fspath(path)} is not a regular file")
    # The file stays open, so that no other file gets its inode number.
    with Path(path).open("rb") as file:
        fd = file.fileno()
        pattern, exact = _lines_of(fd)
        found = []
        for pid in psutil.pids():
            try:
                maps = Path(f"/proc/{pid}/maps").read_bytes()
            except PermissionError as error:
                if refused is not None:
                    refused(pid, error)
                continue
            except OSError:  # it has ended, or is a kernel thread
                continue
            spans = [(int(start, 16), int(end, 16)) for start, end in pattern.findall(maps)]
            if not exact:
                spans = [span for span in spans if _maps_it(fd, pid, *span)]
            if spans:
                found.append(Mapper(pid, tuple(_joined(spans))))
        return found


def _lines_of(fd: int) -> tuple[re.Pattern[bytes], bool]:
    """Return a pattern for the file's lines in /proc/PID/maps, and whether it matches only those.

    Under overlayfs and btrfs these lines name another device than stat() does, and under overlayfs
    another inode. So the file is mapped here to see how the kernel names it. Inode numbers are
    unique on the file's own device, but not on one that several btrfs subvolumes share.
    """
    status = os.fstat(fd)
    # hugetlbfs unmaps whole huge pages only; their size is its block size.
    length = status.st_blksize
    address = _mapping.map_file(fd, length)
    try:
        maps = Path("/proc/self/maps").read_bytes()
    finally:
        _mapping.unmap(address, length)
    here = re.search(rb"^0*%x-[0-9a-f]+ \S+ [0-9a-f]+ (\S+) (\d+) " % address, maps, re.MULTILINE)
    if here is None:
        raise FileNotFoundError(f"/proc/self/maps does not show {length} bytes at {address:#x}")
    device, inode = here.groups()
    major, minor = (int(part, 16) for part in device.split(b":"))
    exact = (os.makedev(major, minor), int(inode)) == (status.st_dev, status.st_ino)
    line = rb"^([0-9a-f]+)-([0-9a-f]+) \S+ [0-9a-f]+ %s %s " % (device, inode)
    return re.compile(line, re.MULTILINE), exact


def _maps_it(fd: int, pid: int, start: int, end: int) -> bool:
    """Say whether a mapping maps the file; assume so where map_files may not be read."""
    try:
        mapped = Path(f"/proc/{pid}/map_files/{start:x}-{end:x}").stat()
    except PermissionError:
        return True
    except OSError:  # it was unmapped meanwhile
        return False
    return os.path.samestat(mapped, os.fstat(fd))


def _joined(spans: list[tuple[int, int]]) -> Iterator[Range]:
    start, end = spans[0]
    for next_start, next_end in spans[1:]:
        if next_start != end:
            yield Range(start, end - start)
            start = next_start
        end = next_end
    yield Range(start, end - start)
