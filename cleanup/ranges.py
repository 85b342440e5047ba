# SPDX-License-Identifier: MIT
"""A stretch of an address space."""

from typing import NamedTuple


class Range(NamedTuple):
    """A stretch of a process's address space, as madvise(2) takes it: an address and a length.

    `address` is its first byte and `length` its size, both in bytes. A plain pair of these will do
    wherever a Range is taken::

        cleanup.reclaim(4711, ranges=[cleanup.Range(0x7f0000000000, 1 << 30)])
        cleanup.reclaim(4711, ranges=[(0x7f0000000000, 1 << 30)])
    """

    address: int
    length: int

    @property
    def end(self) -> int:
        """The address of the first byte behind the range."""
        return self.address + self.length
