# SPDX-License-Identifier: MIT
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from cleanup._buffer import Buffer

DEVICE: Final[str]
ABI_VERSION: Final[int]
IOC_RECLAIM: Final[int]
IOC_FEATURES: Final[int]
MADV_CLEANUP_PGTABLE: Final[int]
SCAN_ONLY: Final[int]
WHOLE_MM: Final[int]
ZERO_PAGES: Final[int]
FEATURE_UNPROVED: Final[int]
MAX_RANGES: Final[int]
LEVELS: Final[Mapping[str, int]]
SKIP_REASONS: Final[Mapping[int, str]]

class Counts(NamedTuple):
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
    abi_version: int
    features: int
    flags: int
    levels: int
    max_ranges: int
    batch: int
    default_max_hold_ns: int

class CallError(OSError):
    counts: Counts
    def __init__(self, number: int, counts: Counts) -> None: ...

def open_device() -> int: ...
def features(fd: int) -> ModuleFeatures: ...
def call(
    fd: int,
    *,
    flags: int = ...,
    levels: int = ...,
    pidfd: int = ...,
    ranges: Sequence[tuple[int, int]] = ...,
    max_tables: int = ...,
    max_hold_ns: int = ...,
    cursor: tuple[int, int, int] = ...,
) -> Counts: ...
def madvise(address: int, length: int, advice: int) -> None: ...
def address_of(buffer: Buffer) -> int: ...
