# SPDX-License-Identifier: MIT
from collections.abc import Mapping, Sequence
from typing import Final

from cleanup._answers import CallError as CallError
from cleanup._answers import Counts as Counts
from cleanup._answers import ModuleFeatures as ModuleFeatures
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
