# SPDX-License-Identifier: MIT
# cython: language_level=3
"""The jemalloc that this process allocates by: what it holds, and giving it back.

Found in the running process by its own symbol, `mallctl`, and linked to nothing: a second
allocator is never loaded.  Names and meaning of what is read and written are jemalloc(3)'s.
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
    size_t HOOKS_RESERVE

    enum hooks_way:
        HOOKS_NOTHING
        HOOKS_ZAP
        HOOKS_REMAP
        HOOKS_MODULE

    ctypedef struct c_stats "struct hooks_stats":
        uint64_t reserved
        uint64_t units
        uint64_t waits
        uint64_t foreign

    const char *hooks_install(const Jemalloc *jemalloc, size_t bytes, hooks_way way)
    c_stats hooks_stats()
    hooks_way hooks_best_way()
    const char *hooks_way_name(hooks_way way)

cdef extern from "shim.h":
    void shim_start(const char *conf, bint told)
    bint shim_is_on()
    void shim_drain()

_WAYS = {
    "zap": HOOKS_ZAP,
    "remap": HOOKS_REMAP,
    "module": HOOKS_MODULE,
    "nothing": HOOKS_NOTHING,
}
MIN_RESERVE = 64 << 20
"""Bytes of the smallest reservation for `install_hooks`."""

ALL_ARENAS = 4096
"""In place of an arena's number: all of them."""

cdef Jemalloc _jemalloc
cdef bint _is_found = False


@dataclass(frozen=True, slots=True)
class Stats:
    """Bytes, of all arenas together, as of the call.

    Attributes:
        allocated: handed out to the program.
        active: in pages that have something handed out.
        resident: an upper bound of what is in memory, jemalloc's own data included.
        mapped: in extents that are mapped.
        retained: of address space that is kept, without memory behind it.
        metadata: of jemalloc's own.
    """

    allocated: int
    active: int
    resident: int
    mapped: int
    retained: int
    metadata: int


@dataclass(frozen=True, slots=True)
class Arena:
    """Pages of one arena.

    Attributes:
        number: its number.
        active: pages in use.
        dirty: unused pages that still have memory.
        muzzy: unused pages that the kernel may take (MADV_FREE).
        purges: madvise() calls that gave pages back so far.
        purged: pages given back so far.
    """

    number: int
    active: int
    dirty: int
    muzzy: int
    purges: int
    purged: int


@dataclass(frozen=True, slots=True)
class Decay:
    """How long unused pages keep their memory, in milliseconds; 0: not at all, -1: for good."""

    dirty_ms: int
    muzzy_ms: int


@dataclass(frozen=True, slots=True)
class HookStats:
    """What the extent hooks did.

    Attributes:
        reserved: bytes of the reservation in use so far.
        units: how often a unit of 2 MiB was given back with its page table.
        waits: how often a thread met a unit in the middle of that.
        foreign: extents that had no room in the reservation.
    """

    reserved: int
    units: int
    waits: int
    foreign: int


cdef int _find() except -1:
    """Look the functions up, once they are there; raises NotLoaded."""
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
    """Whether this process allocates by jemalloc."""
    try:
        _find()
    except NotLoaded:
        return False
    return True


def prefix() -> str:
    """What its functions' names begin with: nothing, if it is the process's malloc().

    Raises NotLoaded.
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


def read_bool(str name) -> bool:
    """The value of a name such as "opt.retain".  Raises JemallocError, NotLoaded."""
    cdef bint wide
    cdef unsigned char value = 0
    _read(name, &value, sizeof(value))
    wide = value
    return wide


def read_unsigned(str name) -> int:
    """The value of a name such as "arenas.narenas".  Raises JemallocError, NotLoaded."""
    cdef unsigned int value = 0
    _read(name, &value, sizeof(value))
    return value


def read_size(str name) -> int:
    """The value of a name such as "stats.allocated".  Raises JemallocError, NotLoaded."""
    cdef size_t value = 0
    _read(name, &value, sizeof(value))
    return value


def read_ssize(str name) -> int:
    """The value of a name such as "arenas.dirty_decay_ms".  Raises JemallocError, NotLoaded."""
    cdef Py_ssize_t value = 0
    _read(name, &value, sizeof(value))
    return value


def read_uint64(str name) -> int:
    """The value of a name such as "stats.arenas.0.dirty_purged".

    Raises JemallocError, NotLoaded.
    """
    cdef uint64_t value = 0
    _read(name, &value, sizeof(value))
    return value


def read_str(str name) -> str:
    """The value of a name such as "version".  Raises JemallocError, NotLoaded."""
    cdef const char *value = NULL
    _read(name, &value, sizeof(value))
    return "" if value == NULL else value.decode()


def control(str name) -> None:
    """Do what a name without a value is for, such as "arena.0.purge".

    Raises JemallocError, NotLoaded.
    """
    _control(name, NULL, NULL, NULL, 0)


cdef int _write_ssize(str name, Py_ssize_t value) except -1:
    return _control(name, NULL, NULL, &value, sizeof(value))


cdef int _refresh() except -1:
    """Have it take its figures anew."""
    cdef uint64_t epoch = 1
    return _control("epoch", NULL, NULL, &epoch, sizeof(epoch))


def version() -> str:
    """Such as "5.3.0-0-g54eaed1d".  Raises NotLoaded."""
    return read_str("version")


def arenas() -> list[int]:
    """The numbers of the arenas that are in use.  Raises JemallocError, NotLoaded."""
    return [
        number
        for number in range(read_unsigned("arenas.narenas"))
        if read_bool(f"arena.{number}.initialized")
    ]


def stats() -> Stats:
    """What the process holds.  Raises JemallocError where jemalloc keeps no figures, NotLoaded."""
    _refresh()
    return Stats(
        **{
            name: read_size(f"stats.{name}")
            for name in ("allocated", "active", "resident", "mapped", "retained", "metadata")
        }
    )


def arena(number: int) -> Arena:
    """What an arena holds; of ALL_ARENAS together, too.  Raises JemallocError, NotLoaded."""
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
    """Of an arena; of those to be made, by default.  Raises JemallocError, NotLoaded."""
    place = "arenas" if number is None else f"arena.{number:d}"
    return Decay(read_ssize(f"{place}.dirty_decay_ms"), read_ssize(f"{place}.muzzy_decay_ms"))


def set_decay(wanted: Decay, number: int | None = None) -> None:
    """Of an arena; of all there are and all to be made, by default.

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
    """Give all unused pages of an arena back, of all by default; this thread's cache as well.

    Raises JemallocError, NotLoaded.
    """
    if read_bool("opt.tcache"):
        control("thread.tcache.flush")
    control(f"arena.{number:d}.purge")
    # Of hooks that free tables by the module.
    if shim_is_on():
        shim_drain()


def install_hooks(str way="auto", size_t reserve=HOOKS_RESERVE) -> str:
    """Have all arenas give a page table back with the last page that it maps, from now on.

    Arguments:
        way: how a table is freed: "zap", by one MADV_DONTNEED of its 2 MiB, which some kernels
            answer so since 6.14; "remap", by a new mapping in its place; "nothing", to compare;
            "auto": by what works here.
        reserve: bytes of address space for the arenas, no memory; what goes beyond is given back
            as without the hooks.

    Memory that was allocated before is given back as ever.  By "remap" a unit loses what the program
    set on it since by mbind() or madvise(); the other ways keep that.  Locked memory stays locked
    by each of them, and from Linux 5.18 on its pages are given back as others are.

    A process has one set of hooks: there are none to be had under `hooks:jemalloc`, nor in a program
    that has its own.

    Returns the way.  Raises JemallocError where it can't be done, with the reason, and with nothing
    changed; NotLoaded; ValueError.
    """
    cdef const char *why
    _find()
    if way != "auto" and way not in _WAYS:
        raise ValueError(f"{way!r} is none of auto, {', '.join(_WAYS)}")
    if reserve < MIN_RESERVE:
        raise ValueError(f"a reservation of {reserve} bytes is too small: {MIN_RESERVE} at least")
    if way in ("auto", "module"):
        _start_shim()
    if way == "auto":
        way = hooks_way_name(hooks_best_way()).decode()
    if way == "module" and not shim_is_on():
        raise JemallocError(
            ENODEV, "the module can't be called: see why by `pgtable-cleanup features`"
        )
    why = hooks_install(&_jemalloc, reserve, _WAYS[way])
    if why != NULL:
        raise JemallocError(EFAULT, os.fsdecode(why))
    return way


cdef int _start_shim() except -1:
    """This process's own, beside one that may be preloaded: its conf, and the device."""
    cdef bytes conf = os.environ.get("PGTABLE_CLEANUP_CONF", "").encode()
    if not shim_is_on():
        shim_start(conf, True)
    return 0


def hook_stats() -> HookStats:
    """What the hooks did so far."""
    cdef c_stats found = hooks_stats()
    return HookStats(found.reserved, found.units, found.waits, found.foreign)
