# SPDX-License-Identifier: MIT
"""Figures and settings of the preload library, as Python sees them.

The library's own lists of both are in C: `struct pgtable_cleanup_stats` of pgtable_cleanup_shim.h,
and SHIM_CONF_KEYS of core/conf.h.
"""

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Stats:
    """What the library has done since the process began or was forked.

    Attributes:
        notes: calls of the program that released memory.
        units: units that were noted, each the memory that one page table maps (2 MiB on x86-64);
            each counts once until a drain looks at it.
        lost: stretches of units that were not noted for want of room.
        drains: calls of the module, each of which looked at all that was noted.
        tried: units that the drains looked at.
        freed_pte: PTE tables that the drains freed.
        freed_pmd: PMD tables that the drains freed.
        freed_pud: PUD tables that the drains freed.
        zero_pages_dropped: zero-page entries that the drains dropped.
        contended: drains that found every lock taken.
        ns: nanoseconds that the drains took.
        backoff: how many times rarer drains are than at first, because they freed little.
        hook_units: units that jemalloc's hooks gave back whole, with `hooks:jemalloc`.
    """

    notes: int = 0
    units: int = 0
    lost: int = 0
    drains: int = 0
    tried: int = 0
    freed_pte: int = 0
    freed_pmd: int = 0
    freed_pud: int = 0
    zero_pages_dropped: int = 0
    contended: int = 0
    ns: int = 0
    backoff: int = 1
    hook_units: int = 0


@dataclass(frozen=True, slots=True)
class Conf:
    """The configuration in force, which comes from the variable PGTABLE_CLEANUP_CONF.

    Attributes:
        threshold: how many units are noted before a drain.
        interval_ms: how many milliseconds after the first note a drain comes at the latest, if the
            program releases memory then.
        zero_pages: whether drains drop entries that map the shared zero page, too.
        thread: whether a thread of the library keeps to interval_ms when no memory is released.
        hooks: "jemalloc" if its extent hooks were asked for, else "none".
        backend: "module", or "null" if nothing is to be freed.
        verbose: 0 if the library says nothing, 1 if it says why it stops, 2 if it also says what it
            found at the start.
        stats: when the process prints what was done: "exit" or "none".
    """

    threshold: int
    interval_ms: int
    zero_pages: bool
    thread: bool
    hooks: str
    backend: str
    verbose: int
    stats: str


def conf_of(written: str) -> Conf:
    """Return the configuration that the library has written with all its keys."""
    values = dict(entry.split(":") for entry in written.split(","))
    said: dict[str, Any] = {key.name: values[key.name] for key in fields(Conf)}
    for key in fields(Conf):
        if key.type is bool:
            said[key.name] = values[key.name] == "true"
        elif key.type is int:
            said[key.name] = int(values[key.name])
    return Conf(**said)
