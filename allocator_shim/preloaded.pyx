# SPDX-License-Identifier: MIT
# cython: language_level=3
"""The library that is preloaded into this process: what it did, and having it do it now.

The functions are the library's own, found in the running process, so that a Python program sees
what the library noted for it.
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
    """Counts since the process began, or since its fork.

    Attributes:
        notes: calls of the program that released something.
        units: units of 2 MiB noted, each once until it was looked at.
        lost: stretches of units not noted for want of room.
        drains: calls of the module that looked at what was noted.
        tried: units that they looked at.
        freed_pte: PTE tables that they freed.
        freed_pmd: PMD tables that they freed.
        freed_pud: PUD tables that they freed.
        zero_pages_dropped: zero-page entries that they dropped.
        contended: drains that found every lock taken.
        ns: nanoseconds that the drains took.
        backoff: drains are so many times rarer, as they freed little; 1: are not.
        hook_units: units that jemalloc's hooks gave back whole, with hooks:jemalloc.
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
    """What is in force; see PGTABLE_CLEANUP_CONF in `pgtable-cleanup exec --help`.

    Attributes:
        threshold: drain once so many units of 2 MiB were touched.
        interval_ms: or once the first of them is so old, in milliseconds.
        zero_pages: zero-page entries are dropped, too.
        thread: a thread of the library's own sees to the interval.
        hooks: "jemalloc": its extent hooks were asked for; else "none".
        backend: "module", or "null": nothing is freed.
        verbose: 0 says nothing, 1 why it stops, 2 what it found at the start.
        stats: when to say the counts: "exit" or "none".
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
    """Whether the library is preloaded into this process."""
    try:
        _find("pgtable_cleanup_drain")
    except NotPreloaded:
        return False
    return True


def drain() -> None:
    """Look at all that was noted so far, now; nothing where another thread is about it.

    Raises NotPreloaded.
    """
    cdef Drain call = <Drain>_find("pgtable_cleanup_drain")
    with nogil:
        call()


def stats() -> Stats:
    """What it did.  Raises NotPreloaded, also of a library older than this."""
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
    """What is in force.  Raises NotPreloaded."""
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
