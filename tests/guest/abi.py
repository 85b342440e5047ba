# SPDX-License-Identifier: MIT
"""The reclaim ioctl with any value in any field, also those that the bindings refuse."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from dataclasses import dataclass, field

from cleanup import _uapi

FORMAT = struct.Struct("=IIIiiIQQQIIQ37Q")
SIZE = FORMAT.size
SIZE_MIN = 64
ZERO_PAGES_DROPPED = SIZE - 27 * 8  # the field's offset in struct pgtable_cleanup_args
LEVEL_PTE = _uapi.LEVELS["pte"]
ALL_LEVELS = sum(_uapi.LEVELS.values())
RANGE = struct.Struct("=QQ")


@dataclass
class Args:
    """struct pgtable_cleanup_args with its ranges, and a `tail` of bytes that follow it."""

    ranges: list[tuple[int, int]] = field(default_factory=list)
    size: int = SIZE
    flags: int = 0
    levels: int = LEVEL_PTE
    pidfd: int = -1
    inode_fd: int = -1
    nr_ranges: int | None = None
    ranges_pointer: int | None = None
    max_tables: int = 0
    max_hold_ns: int = 0
    next_range: int = 0
    next_level: int = 0
    next_addr: int = 0
    tail: bytes = b""

    def go_on(self, answer: Answer) -> bool:
        """Continue where a call stopped, and return whether any of the ranges is left."""
        self.next_range = answer.next_range
        self.next_level = answer.next_level
        self.next_addr = answer.next_addr
        return self.next_range < (1 if self.flags & _uapi.WHOLE_MM else len(self.ranges))


@dataclass(frozen=True)
class Answer:
    """The cursor and counts that the kernel wrote; counts in pairs are of (PMD, PUD) tables."""

    next_range: int
    next_level: int
    next_addr: int
    holes: int
    tables: int
    empty: int
    freed: int
    upper_tables: tuple[int, int]
    upper_empty: tuple[int, int]
    upper_freed: tuple[int, int]
    zero_pages_dropped: int
    skipped: dict[str, int]
    flushes: int
    longest_hold_ns: int


class Refused(Exception):
    """A call failed with an errno; the kernel may have written an answer nevertheless."""

    def __init__(self, number: int, answer: Answer) -> None:
        super().__init__(errno.errorcode[number])
        self.errno = number
        self.answer = answer


def call(args: Args, fd: int | None = None, number: int = _uapi.IOC_RECLAIM) -> Answer:
    """Call PGTABLE_CLEANUP_IOC_RECLAIM; raise Refused where it fails."""
    packed_ranges = pack_ranges(args)
    buffer = bytearray(pack(args, packed_ranges) + args.tail)
    own = fd is None
    device = os.open(_uapi.DEVICE, os.O_RDWR | os.O_CLOEXEC) if fd is None else fd
    try:
        fcntl.ioctl(device, number, buffer)
    except OSError as error:
        assert error.errno is not None
        raise Refused(error.errno, _answer(buffer)) from error
    finally:
        if own:
            os.close(device)
    return _answer(buffer)


def pack_ranges(args: Args) -> bytearray:
    """Return the packed ranges, which must live as long as a struct that points to them."""
    return bytearray(b"".join(RANGE.pack(*span) for span in args.ranges))


def pack(args: Args, packed_ranges: bytearray) -> bytes:
    """Return struct pgtable_cleanup_args as the kernel reads it."""
    pointer = _uapi.address_of(packed_ranges) if packed_ranges else 0
    return FORMAT.pack(
        args.size,
        args.flags,
        args.levels,
        args.pidfd,
        args.inode_fd,
        len(args.ranges) if args.nr_ranges is None else args.nr_ranges,
        pointer if args.ranges_pointer is None else args.ranges_pointer,
        args.max_tables,
        args.max_hold_ns,
        args.next_range,
        args.next_level,
        args.next_addr,
        *[0] * 37,
    )


def refused(args: Args, fd: int | None = None, number: int = _uapi.IOC_RECLAIM) -> Refused:
    """Return the failure of a call that must fail."""
    try:
        answer = call(args, fd, number)
    except Refused as refusal:
        return refusal
    raise AssertionError(f"the call succeeded: {answer}")


def _answer(buffer: bytearray) -> Answer:
    fields = FORMAT.unpack_from(buffer)
    counts = fields[12:]
    skipped = {
        name: counts[11 + index] for index, name in _uapi.SKIP_REASONS.items() if counts[11 + index]
    }
    return Answer(
        next_range=fields[9],
        next_level=fields[10],
        next_addr=fields[11],
        holes=counts[0],
        tables=counts[1],
        empty=counts[4],
        freed=counts[7],
        upper_tables=(counts[2], counts[3]),
        upper_empty=(counts[5], counts[6]),
        upper_freed=(counts[8], counts[9]),
        zero_pages_dropped=counts[10],
        skipped=skipped,
        flushes=counts[35],
        longest_hold_ns=counts[36],
    )
