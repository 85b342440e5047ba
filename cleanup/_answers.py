# SPDX-License-Identifier: MIT
"""What the module's ioctls answer, as `cleanup._uapi` hands it on."""

import os
from typing import NamedTuple


class Counts(NamedTuple):
    """What one reclaim ioctl wrote: where it stopped, and its counts."""

    next_range: int
    next_level: int
    next_addr: int
    holes: int
    tables: tuple[int, ...]
    empty: tuple[int, ...]
    freed: tuple[int, ...]
    zero_pages_dropped: int
    skipped: tuple[int, ...]
    flushes: int
    longest_hold_ns: int


class ModuleFeatures(NamedTuple):
    """What the features ioctl wrote; `flags`, `levels` and `features` are bits."""

    abi_version: int
    features: int
    flags: int
    levels: int
    max_ranges: int
    batch: int
    default_max_hold_ns: int


class CallError(OSError):
    """A reclaim ioctl failed. `counts` is what the kernel had done by then."""

    def __init__(self, number: int, counts: Counts) -> None:
        super().__init__(number, os.strerror(number))
        self.counts = counts
