# SPDX-License-Identifier: MIT
"""UFFDIO_MOVE out of memory that no userfaultfd is registered on.

Only the target of a move must be registered.  The module leaves that one's tables alone; those of
the source it may free while the move is at them.
"""

import errno
import fcntl
import struct

from guest.layout import MADV_DONTNEED, Area, madvise

UFFDIO_MOVE = 0xC028AA05
ALLOW_SRC_HOLES = 2
MOVE = struct.Struct("=QQQQq")


def move(fd: int, target: int, source: int, length: int, mode: int = 0) -> int:
    """One UFFDIO_MOVE: how much it moved; OSError where that is nothing."""
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
    """Move a page of each unit, and the holes between them; see that each arrived.

    Returns how often the move stopped early.  A hole makes the table that it lies in, so that the
    move goes through tables that have only just been made and are empty.
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
