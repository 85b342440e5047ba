# SPDX-License-Identifier: MIT
"""Types in which `cleanup._uapi` returns the answers of the module's ioctls."""

import os
from typing import NamedTuple


class Counts(NamedTuple):
    """The answer of one reclaim ioctl: where it stopped, and what it counted."""

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
    """The answer of the features ioctl; `flags`, `levels` and `features` are bit masks."""

    abi_version: int
    features: int
    flags: int
    levels: int
    max_ranges: int
    batch: int
    default_max_hold_ns: int


class CallError(OSError):
    """A reclaim ioctl failed. `counts` says what the kernel had done by then."""

    def __init__(self, number: int, counts: Counts) -> None:
        super().__init__(number, os.strerror(number))
        self.counts = counts
