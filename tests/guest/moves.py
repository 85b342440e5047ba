# SPDX-License-Identifier: MIT
"""UFFDIO_MOVE out of memory that no userfaultfd is registered on.

Only the target of a move must be registered.  The module leaves the tables of the target alone, but
may free tables of the source while the move uses them.
"""

import errno
import fcntl
import struct

from guest.layout import MADV_DONTNEED, Area, madvise

UFFDIO_MOVE = 0xC028AA05
ALLOW_SRC_HOLES = 2
MOVE = struct.Struct("=QQQQq")


def move(fd: int, target: int, source: int, length: int, mode: int = 0) -> int:
    """Call UFFDIO_MOVE once, and return how many bytes it moved; raise OSError if it moved none."""
    args = bytearray(MOVE.pack(target, source, length, mode, 0))
    try:
        fcntl.ioctl(fd, UFFDIO_MOVE, args)
    except OSError:
        moved: int = MOVE.unpack(args)[-1]
        if moved <= 0:
            raise
        return moved
    return length


def move_with_holes(fd: int, target: Area, source: Area, value: int) -> int:
    """Move a page of each unit and the holes between them, and check that each page arrived.

    Return how often the move stopped early.  Where the source has a hole, the move makes a table
    for it, and so goes through tables that are new and empty.
    """
    source.touch(value)
    done = stops = 0
    while done < source.length:
        left = source.length - done
        try:
            done += move(fd, target.addr + done, source.addr + done, left, ALLOW_SRC_HOLES)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        stops += done < source.length
    found = target.values()
    assert found == bytes([value] * target.units), f"{found.hex()} where {value:02x} was moved"
    madvise(target.addr, target.length, MADV_DONTNEED)
    return stops
