# SPDX-License-Identifier: MIT
from dataclasses import dataclass

@dataclass(frozen=True, slots=True)
class Stats:
    notes: int
    units: int
    lost: int
    drains: int
    tried: int
    freed_pte: int
    freed_pmd: int
    freed_pud: int
    zero_pages_dropped: int
    contended: int
    ns: int
    backoff: int
    hook_units: int

@dataclass(frozen=True, slots=True)
class Conf:
    threshold: int
    interval_ms: int
    zero_pages: bool
    thread: bool
    hooks: str
    backend: str
    verbose: int
    stats: str

def available() -> bool: ...
def drain() -> None: ...
def stats() -> Stats: ...
def conf() -> Conf: ...
