# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Figures, settings and extent hooks of the jemalloc that this process allocates by.

This module looks jemalloc's `mallctl` up in the running process and is not linked to jemalloc, so
that it never loads a second allocator.  jemalloc(3) explains the names that can be read and written.
"""

from dataclasses import dataclass

from libc.errno cimport EAGAIN, EFAULT, EINVAL, ENODEV, ENOENT, EPERM
from libc.stdint cimport uint64_t

import errno as _errno
import os

from allocator_shim.errors import JemallocError, NotLoaded

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

cdef extern from "find.h" nogil:
    enum jemalloc_found:
        JEMALLOC_FOUND
        JEMALLOC_NONE
        JEMALLOC_NOT_MALLOC

    ctypedef struct Jemalloc "struct jemalloc":
        const char *prefix
        int (*mallctl)(const char *name, void *old, size_t *old_length,
                       void *new, size_t new_length) noexcept nogil

    jemalloc_found jemalloc_find(Jemalloc *found)

cdef extern from "hooks.h":
    enum hooks_way:
        HOOKS_NOTHING
        HOOKS_ZAP
        HOOKS_REMAP
        HOOKS_MODULE

    ctypedef struct c_stats "struct hooks_stats":
        uint64_t mapped
        uint64_t units
        uint64_t waits
        uint64_t foreign

    const char *hooks_way_name(hooks_way way)

cdef extern from "process.h":
    ctypedef struct Hooks "struct hooks_of_process":
        const char *(*install)(const Jemalloc *jemalloc, hooks_way way)
        bint (*are_installed)(hooks_way *way)
        hooks_way (*best_way)()
        void (*take_arenas)()
        c_stats (*stats)()
        bint (*shim_is_on)()
        void (*drain_shim)()

    const Hooks hooks_of_this_copy
    const Hooks *hooks_of_process()

cdef extern from "shim.h":
    void shim_start(const char *conf, bint told)

_WAYS = {
    "zap": HOOKS_ZAP,
    "remap": HOOKS_REMAP,
    "module": HOOKS_MODULE,
    "nothing": HOOKS_NOTHING,
}
ALL_ARENAS = 4096  # jemalloc's MALLCTL_ARENAS_ALL

cdef Jemalloc _jemalloc
cdef bint _is_found = False
cdef const Hooks *_hooks = hooks_of_process()


@dataclass(frozen=True, slots=True)
class Stats:
    """What all arenas together hold, in bytes, at the time of the call.

    Attributes:
        allocated: bytes that are handed out to the program.
        active: bytes in pages of which any part is handed out.
        resident: an upper bound of the bytes in memory, jemalloc's own data included.
        mapped: bytes in extents that are mapped.
        retained: bytes of address space that jemalloc keeps, with no memory behind them.
        metadata: bytes of jemalloc's own data.
    """

    allocated: int
    active: int
    resident: int
    mapped: int
    retained: int
    metadata: int


@dataclass(frozen=True, slots=True)
class Arena:
    """The pages of one arena.

    Attributes:
        number: the arena's number.
        active: pages in use.
        dirty: unused pages that still have memory.
        muzzy: unused pages whose memory the kernel may take (MADV_FREE).
        purges: how many madvise() calls have given pages back.
        purged: how many pages were given back.
    """

    number: int
    active: int
    dirty: int
    muzzy: int
    purges: int
    purged: int


@dataclass(frozen=True, slots=True)
class Decay:
    """How long unused pages keep their memory.

    Attributes:
        dirty_ms: milliseconds until a dirty page becomes muzzy.  With 0 it does so at once, and
            with -1 never.
        muzzy_ms: milliseconds until a muzzy page is given back, likewise.
    """

    dirty_ms: int
    muzzy_ms: int


@dataclass(frozen=True, slots=True)
class HookStats:
    """What the extent hooks have done.

    Attributes:
        mapped: bytes that jemalloc has got through the hooks.
        units: how often the memory that one page table maps was given back with the table.
        waits: how often a thread had to wait for a unit that was being given back.
        foreign: extents that the hooks leave alone: those of sbrk(), say.
    """

    mapped: int
    units: int
    waits: int
    foreign: int


cdef int _find() except -1:
    """Look jemalloc's functions up, once.  Raises NotLoaded."""
    global _is_found
    cdef jemalloc_found found
    if _is_found:
        return 0
    found = jemalloc_find(&_jemalloc)
    if found == JEMALLOC_FOUND:
        _is_found = True
        return 0
    if found == JEMALLOC_NOT_MALLOC:
        prefix = _jemalloc.prefix.decode()
        raise NotLoaded(
            _errno.ENOSYS,
            f"there is a jemalloc ({prefix}mallctl) in this process, but {prefix}malloc is another "
            "allocator's: run the program by `pgtable-cleanup exec --jemalloc -- CMD`",
        )
    raise NotLoaded(
        _errno.ENOSYS,
        "this process does not allocate by jemalloc: run it by "
        "`pgtable-cleanup exec --jemalloc -- CMD`",
    )


def available() -> bool:
    """Say whether this process allocates by jemalloc."""
    try:
        _find()
    except NotLoaded:
        return False
    return True


def prefix() -> str:
    """Return the prefix of jemalloc's function names.

    It is empty if jemalloc's malloc() is the process's own.  Raises NotLoaded.
    """
    _find()
    return _jemalloc.prefix.decode()


cdef int _control(str name, void *old, size_t *old_length, void *new, size_t new_length) except -1:
    cdef bytes encoded = name.encode()
    cdef const char *c_name = encoded
    cdef int err
    _find()
    with nogil:
        err = _jemalloc.mallctl(c_name, old, old_length, new, new_length)
    if err == 0:
        return 0
    if err == ENOENT:
        what = "this jemalloc knows no such name"
    elif err == EINVAL:
        what = "the value has another size or type"
    elif err == EPERM:
        what = "it can't be read, or not be written"
    elif err == EAGAIN:
        what = "there is no memory"
    elif err == EFAULT:
        what = "it can't be done now"
    else:
        what = os.strerror(err)
    raise JemallocError(err, f"mallctl {name}: {what}")


cdef int _read(str name, void *to, size_t length) except -1:
    cdef size_t given = length
    _control(name, to, &given, NULL, 0)
    if given != length:
        raise JemallocError(EINVAL, f"mallctl {name}: the value has another size or type")
    return 0


def read_bool(name: str) -> bool:
    """Return a setting or figure that is a bool, such as "opt.retain".

    Raises JemallocError, NotLoaded.
    """
    cdef bint wide
    cdef unsigned char value = 0
    _read(name, &value, sizeof(value))
    wide = value
    return wide


def read_unsigned(name: str) -> int:
    """Return a setting or figure that is an unsigned int, such as "arenas.narenas".

    Raises JemallocError, NotLoaded.
    """
    cdef unsigned int value = 0
    _read(name, &value, sizeof(value))
    return value


def read_size(name: str) -> int:
    """Return a setting or figure that is a size_t, such as "stats.allocated".

    Raises JemallocError, NotLoaded.
    """
    cdef size_t value = 0
    _read(name, &value, sizeof(value))
    return value


def read_ssize(name: str) -> int:
    """Return a setting or figure that is an ssize_t, such as "arenas.dirty_decay_ms".

    Raises JemallocError, NotLoaded.
    """
    cdef Py_ssize_t value = 0
    _read(name, &value, sizeof(value))
    return value


def read_uint64(name: str) -> int:
    """Return a figure that is a uint64_t, such as "stats.arenas.0.dirty_purged".

    Raises JemallocError, NotLoaded.
    """
    cdef uint64_t value = 0
    _read(name, &value, sizeof(value))
    return value


def read_str(name: str) -> str:
    """Return a setting that is a string, such as "version".

    Raises JemallocError, NotLoaded.
    """
    cdef const char *value = NULL
    _read(name, &value, sizeof(value))
    return "" if value == NULL else value.decode()


def control(name: str) -> None:
    """Carry out the action that a name stands for, such as "arena.0.purge".

    Raises JemallocError, NotLoaded.
    """
    _control(name, NULL, NULL, NULL, 0)


cdef int _write_ssize(str name, Py_ssize_t value) except -1:
    return _control(name, NULL, NULL, &value, sizeof(value))


cdef int _refresh() except -1:
    """Have jemalloc bring its figures up to date."""
    cdef uint64_t epoch = 1
    return _control("epoch", NULL, NULL, &epoch, sizeof(epoch))


def version() -> str:
    """Return jemalloc's version, such as "5.3.0-0-g54eaed1d".  Raises NotLoaded."""
    return read_str("version")


def arenas() -> list[int]:
    """Return the numbers of the arenas that are in use.  Raises JemallocError, NotLoaded."""
    return [
        number
        for number in range(read_unsigned("arenas.narenas"))
        if read_bool(f"arena.{number}.initialized")
    ]


def stats() -> Stats:
    """Return what all arenas together hold.

    Raises NotLoaded, and JemallocError where this jemalloc was built to keep no figures.
    """
    _refresh()
    return Stats(
        **{
            name: read_size(f"stats.{name}")
            for name in ("allocated", "active", "resident", "mapped", "retained", "metadata")
        }
    )


def arena(number: int) -> Arena:
    """Return the pages of one arena, or of all of them for `ALL_ARENAS`.

    Raises JemallocError, NotLoaded.
    """
    _refresh()
    place = f"stats.arenas.{number:d}"
    return Arena(
        number=number,
        active=read_size(f"{place}.pactive"),
        dirty=read_size(f"{place}.pdirty"),
        muzzy=read_size(f"{place}.pmuzzy"),
        purges=read_uint64(f"{place}.dirty_nmadvise") + read_uint64(f"{place}.muzzy_nmadvise"),
        purged=read_uint64(f"{place}.dirty_purged") + read_uint64(f"{place}.muzzy_purged"),
    )


def decay(number: int | None = None) -> Decay:
    """Return the decay of an arena, or that which new arenas will have if no number is given.

    Raises JemallocError, NotLoaded.
    """
    place = "arenas" if number is None else f"arena.{number:d}"
    return Decay(read_ssize(f"{place}.dirty_decay_ms"), read_ssize(f"{place}.muzzy_decay_ms"))


def set_decay(wanted: Decay, number: int | None = None) -> None:
    """Set the decay of an arena, or of all present and future arenas if no number is given.

    Raises JemallocError, NotLoaded.
    """
    if number is None:
        places = ["arenas", *(f"arena.{each}" for each in arenas())]
    else:
        places = [f"arena.{number:d}"]
    for place in places:
        _write_ssize(f"{place}.dirty_decay_ms", wanted.dirty_ms)
        _write_ssize(f"{place}.muzzy_decay_ms", wanted.muzzy_ms)


def purge(number: int = ALL_ARENAS) -> None:
    """Give all unused pages of an arena back, or those of all arenas if no number is given.

    What the calling thread's cache holds is given back, too.  Raises JemallocError, NotLoaded.
    """
    if read_bool("opt.tcache"):
        control("thread.tcache.flush")
    # Arenas that jemalloc has made since the hooks were installed get them, too.
    _hooks.take_arenas()
    control(f"arena.{number:d}.purge")
    # Hooks that free tables by the module leave some to the next drain.
    if _hooks.shim_is_on():
        _hooks.drain_shim()


def install_hooks(way: str = "auto") -> str:
    """Have jemalloc free a page table together with the last page that it maps, from now on.

    The memory of arenas that are in use now goes through the hooks, and that of arenas made later
    from the next `purge` on.  Arenas that have hooks of the program's own are left alone.  Memory
    that was allocated before is given back as without the hooks.

    What the program has set on memory stays: its locks, and what it told the kernel by madvise()
    or mbind().  Locked memory stays in memory until it is unlocked.  With
    "remap", memory must not be locked while another thread frees memory; under the preloaded
    library it may.

    A process has one set of hooks.  Where the preloaded library has installed its own by
    `hooks:jemalloc`, this returns their way.

    Arguments:
        way: how a table is freed.  "zap" does it by one MADV_DONTNEED of all that it maps, after which
            some kernels free the table (Linux 6.14 and later).  "remap" moves the table away by
            mremap(), and unmaps it there (Linux 5.7 and later).  "module" asks the module.
            "nothing" leaves the table, for comparison.  "auto" takes what works here, or what is
            installed already.

    Returns:
        The way that is used.

    Raises:
        JemallocError: the hooks can't be installed; the message says why, and nothing was changed.
        NotLoaded: this process does not allocate by jemalloc.
        ValueError: there is no such way.
    """
    cdef const char *why
    cdef hooks_way in_use
    _find()
    if way != "auto" and way not in _WAYS:
        raise ValueError(f"{way!r} is none of auto, {', '.join(_WAYS)}")
    if way == "auto" and _hooks.are_installed(&in_use):
        return hooks_way_name(in_use).decode()
    if way in ("auto", "module"):
        _start_shim()
    if way == "auto":
        way = hooks_way_name(_hooks.best_way()).decode()
    if way == "module" and not _hooks.shim_is_on():
        raise JemallocError(
            ENODEV, "the module can't be called: see why by `pgtable-cleanup features`"
        )
    why = _hooks.install(&_jemalloc, _WAYS[way])
    if why != NULL:
        raise JemallocError(EFAULT, os.fsdecode(why))
    return way


cdef int _start_shim() except -1:
    """Start the shim of this copy of the code; the library's is on, or off for a reason."""
    cdef bytes conf = os.environ.get("PGTABLE_CLEANUP_CONF", "").encode()
    if _hooks == &hooks_of_this_copy and not _hooks.shim_is_on():
        shim_start(conf, True)
    return 0


def hook_stats() -> HookStats:
    """Return what the hooks have done in this process, whoever installed them."""
    cdef c_stats found = _hooks.stats()
    return HookStats(found.mapped, found.units, found.waits, found.foreign)
