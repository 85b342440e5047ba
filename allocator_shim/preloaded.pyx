# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Figures and settings of the library that is preloaded into this process.

The functions call those of the library itself, which are looked up in the running process.  So a
Python program sees what the library has noted for it.
"""

from libc.stdint cimport uint64_t

import errno as _errno

from allocator_shim._figures import Conf, Stats
from allocator_shim._figures import conf_of as _conf_of
from allocator_shim.errors import NotPreloaded

__all__ = ["Conf", "Stats", "available", "conf", "drain", "stats"]

cdef extern from "<dlfcn.h>" nogil:
    void *RTLD_DEFAULT
    void *dlsym(void *handle, const char *symbol)

cdef extern from "pgtable_cleanup_shim.h":
    ctypedef struct c_stats "struct pgtable_cleanup_stats":
        pass

cdef extern from *:
    """
    /* All counts are of this type. */
    #define NR_COUNTS (sizeof(struct pgtable_cleanup_stats) / sizeof(uint64_t))
    """
    enum:
        NR_COUNTS

ctypedef int (*Drain)() noexcept nogil
ctypedef int (*GetStats)(c_stats *stats, size_t size) noexcept nogil
ctypedef size_t (*GetConf)(char *conf, size_t size) noexcept nogil


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


def drain() -> bool:
    """Have the library look at all that it has noted, now, and say whether there was anything.

    This does nothing while another thread does the same.  Raises NotPreloaded.
    """
    cdef Drain call = <Drain>_find("pgtable_cleanup_drain")
    cdef int looked
    with nogil:
        looked = call()
    return looked != 0


def stats() -> Stats:
    """Return what the library has done.

    Raises NotPreloaded, also if the preloaded library is older than this module.
    """
    cdef GetStats get = <GetStats>_find("pgtable_cleanup_stats")
    cdef uint64_t counts[NR_COUNTS]
    if get(<c_stats *>counts, sizeof(counts)) != 0:
        raise NotPreloaded(_errno.ENOSYS, "the libpgtable_cleanup.so of this process is too old")
    return Stats(*[counts[i] for i in range(NR_COUNTS)])


def conf() -> Conf:
    """Return the configuration in force.  Raises NotPreloaded."""
    cdef GetConf get = <GetConf>_find("pgtable_cleanup_conf")
    cdef char text[512]
    get(text, sizeof(text))
    return _conf_of((<bytes>text).decode())
