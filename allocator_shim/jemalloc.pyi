# SPDX-License-Identifier: MIT
from dataclasses import dataclass

ALL_ARENAS: int

@dataclass(frozen=True, slots=True)
class Stats:
    allocated: int
    active: int
    resident: int
    mapped: int
    retained: int
    metadata: int

@dataclass(frozen=True, slots=True)
class Arena:
    number: int
    active: int
    dirty: int
    muzzy: int
    purges: int
    purged: int

@dataclass(frozen=True, slots=True)
class Decay:
    dirty_ms: int
    muzzy_ms: int

@dataclass(frozen=True, slots=True)
class HookStats:
    mapped: int
    units: int
    waits: int
    foreign: int

__all__ = [
    "ALL_ARENAS",
    "Arena",
    "Decay",
    "HookStats",
    "Stats",
    "arena",
    "arenas",
    "available",
    "control",
    "decay",
    "hook_stats",
    "install_hooks",
    "prefix",
    "purge",
    "read_bool",
    "read_size",
    "read_ssize",
    "read_str",
    "read_uint64",
    "read_unsigned",
    "set_decay",
    "stats",
    "version",
]

def available() -> bool: ...
def prefix() -> str: ...
def version() -> str: ...
def read_bool(name: str) -> bool: ...
def read_unsigned(name: str) -> int: ...
def read_size(name: str) -> int: ...
def read_ssize(name: str) -> int: ...
def read_uint64(name: str) -> int: ...
def read_str(name: str) -> str: ...
def control(name: str) -> None: ...
def arenas() -> list[int]: ...
def stats() -> Stats: ...
def arena(number: int) -> Arena: ...
def decay(number: int | None = None) -> Decay: ...
def set_decay(wanted: Decay, number: int | None = None) -> None: ...
def purge(number: int = ...) -> None: ...
def install_hooks(way: str = "auto") -> str: ...
def hook_stats() -> HookStats: ...
