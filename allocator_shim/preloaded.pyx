# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Figures and settings of the library that is preloaded into this process.

The functions call those of the library itself, which are looked up in the running process.  So a
Python program sees what the library has noted for it.
"""

from dataclasses import dataclass

from libc.stdint cimport uint64_t

import errno as _errno

from allocator_shim.errors import NotPreloaded

__all__ = ["Conf", "Stats", "available", "conf", "drain", "stats"]

cdef extern from "<dlfcn.h>" nogil:
    void *RTLD_DEFAULT
    void *dlsym(void *handle, const char *symbol)

cdef extern from "pgtable_cleanup_shim.h":
    ctypedef struct c_stats "struct pgtable_cleanup_stats":
        uint64_t notes
        uint64_t units
        uint64_t lost
        uint64_t drains
        uint64_t tried
        uint64_t freed[3]
        uint64_t zero_pages_dropped
        uint64_t contended
        uint64_t ns
        uint64_t backoff
        uint64_t hook_units

ctypedef void (*Drain)() noexcept nogil
ctypedef int (*GetStats)(c_stats *stats, size_t size) noexcept nogil
ctypedef size_t (*GetConf)(char *conf, size_t size) noexcept nogil


@dataclass(frozen=True, slots=True)
class Stats:
    """What the library has done since the process began or was forked.

    Attributes:
        notes: calls of the program that released memory.
        units: units of 2 MiB that were noted; each counts once until a drain looks at it.
        lost: stretches of units that were not noted for want of room.
        drains: calls of the module, each of which looked at all that was noted.
        tried: units that the drains looked at.
        freed_pte: PTE tables that the drains freed.
        freed_pmd: PMD tables that the drains freed.
        freed_pud: PUD tables that the drains freed.
        zero_pages_dropped: zero-page entries that the drains dropped.
        contended: drains that found every lock taken.
        ns: nanoseconds that the drains took.
        backoff: how many times rarer drains are than at first, as they freed little.
        hook_units: units that jemalloc's hooks gave back whole, with `hooks:jemalloc`.
    """

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
    """The configuration in force, which comes from the variable PGTABLE_CLEANUP_CONF.

    Attributes:
        threshold: how many units of 2 MiB are noted before a drain.
        interval_ms: how many milliseconds after the first note a drain comes at the latest, if the
            program releases memory then.
        zero_pages: whether drains drop entries that map the shared zero page, too.
        thread: whether a thread of the library's own keeps to the interval.
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


cdef void *_find(str name) except NULL:
    cdef void *found = dlsym(RTLD_DEFAULT, name.encode())
    if found == NULL:
        raise NotPreloaded(
            _errno.ENOSYS,
            "libpgtable_cleanup.so is not preloaded into this process: run it by "
            "`pgtable-cleanup exec -- CMD`",
        )
    return found


def available() -> bool:
    """Say whether the library is preloaded into this process."""
    try:
        _find("pgtable_cleanup_drain")
    except NotPreloaded:
        return False
    return True


def drain() -> None:
    """Have the library look at all that it has noted, now.

    This does nothing while another thread does the same.  Raises NotPreloaded.
    """
    cdef Drain call = <Drain>_find("pgtable_cleanup_drain")
    with nogil:
        call()


def stats() -> Stats:
    """Return what the library has done.

    Raises NotPreloaded, also if the preloaded library is older than this module.
    """
    cdef GetStats get = <GetStats>_find("pgtable_cleanup_stats")
    cdef c_stats found
    if get(&found, sizeof(found)) != 0:
        raise NotPreloaded(_errno.ENOSYS, "the libpgtable_cleanup.so of this process is too old")
    return Stats(
        notes=found.notes,
        units=found.units,
        lost=found.lost,
        drains=found.drains,
        tried=found.tried,
        freed_pte=found.freed[0],
        freed_pmd=found.freed[1],
        freed_pud=found.freed[2],
        zero_pages_dropped=found.zero_pages_dropped,
        contended=found.contended,
        ns=found.ns,
        backoff=found.backoff,
        hook_units=found.hook_units,
    )


def conf() -> Conf:
    """Return the configuration in force.  Raises NotPreloaded."""
    cdef GetConf get = <GetConf>_find("pgtable_cleanup_conf")
    cdef char text[512]
    get(text, sizeof(text))
    said = dict(entry.split(":") for entry in (<bytes>text).decode().split(","))
    return Conf(
        threshold=int(said["threshold"]),
        interval_ms=int(said["interval_ms"]),
        zero_pages=said["zero_pages"] == "true",
        thread=said["thread"] == "true",
        hooks=said["hooks"],
        backend=said["backend"],
        verbose=int(said["verbose"]),
        stats=said["stats"],
    )
