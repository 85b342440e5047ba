# SPDX-License-Identifier: MIT
# cython: language_level=3
"""The core of allocator_shim, function by function."""

from libc.stdint cimport int64_t, uint64_t


cdef extern from "units.h":
    enum:
        SHIM_RUNS_ROOM

    struct shim_units:
        pass

    struct shim_run:
        uint64_t first
        uint64_t count

    int64_t shim_units_mark(shim_units *units, uint64_t first, uint64_t count) nogil
    size_t shim_units_take(shim_units *units, shim_run *runs) nogil

cdef extern from "paging.h":
    void shim_set_page_size(unsigned long size)

cdef extern from "shim.h":
    enum shim_release:
        SHIM_PAGES
        SHIM_PAGES_AND_TABLES
        SHIM_MAPPING

    ctypedef struct c_stats "struct pgtable_cleanup_stats":
        uint64_t units
        uint64_t tried

    void shim_start(const char *conf, bint told)
    void shim_released(const void *addr, size_t length, shim_release what)
    void shim_drain()
    c_stats shim_stats()

cdef extern from "conf.h":
    ctypedef struct shim_text "struct shim_text":
        size_t length
        char bytes[512]

    ctypedef struct shim_conf "struct shim_conf":
        pass

    unsigned int shim_conf_read(shim_conf *conf, const char *text, bint told)
    void shim_conf_write(const shim_conf *conf, shim_text *text)

cdef extern from *:
    """
    #include "conf.h"
    static void default_conf(struct shim_conf *conf)
    {
        *conf = (struct shim_conf)SHIM_CONF_DEFAULT;
    }
    """
    void default_conf(shim_conf *conf)

ROOM = SHIM_RUNS_ROOM


cdef class Units:
    """A table of units."""

    cdef shim_units *_units
    cdef bytearray _memory
    cdef bytearray _runs

    def __cinit__(self):
        self._memory = bytearray(sizeof(shim_units))
        self._units = <shim_units *><char *>self._memory
        self._runs = bytearray(SHIM_RUNS_ROOM * sizeof(shim_run))

    def mark(self, uint64_t first, uint64_t count) -> int:
        """Mark units; return how many were not marked before, or -1."""
        cdef int64_t fresh
        with nogil:
            fresh = shim_units_mark(self._units, first, count)
        return fresh

    def take(self) -> list[tuple[int, int]]:
        """Take all runs of marked units out; return the first unit and the length of each."""
        cdef shim_run *runs = <shim_run *><char *>self._runs
        cdef size_t nr
        with nogil:
            nr = shim_units_take(self._units, runs)
        return [(runs[i].first, runs[i].count) for i in range(nr)]

    def mark_each(self, uint64_t first, uint64_t count, uint64_t stride) -> int:
        """Mark single units without the GIL; return how many found no room."""
        cdef uint64_t i
        cdef int full = 0
        with nogil:
            for i in range(count):
                full += shim_units_mark(self._units, first + i * stride, 1) < 0
        return full


def start(bytes conf, unsigned long page) -> None:
    """Start the shim with pages of that size."""
    shim_set_page_size(page)
    shim_start(conf, False)


def released(uint64_t addr, size_t length, bint unmapped=False) -> int:
    """Note that pages were released, or unmapped; return how many units are new."""
    cdef uint64_t before = shim_stats().units
    shim_released(<const void *>addr, length, SHIM_MAPPING if unmapped else SHIM_PAGES)
    return shim_stats().units - before


def drain() -> int:
    """Drain; return how many units that looked at."""
    cdef uint64_t before = shim_stats().tried
    shim_drain()
    return shim_stats().tried - before


def read_conf(bytes given, bint told=False) -> tuple[str, int]:
    """Read a conf; return it as the library writes it, and the number of wrong entries."""
    cdef shim_conf conf
    cdef shim_text text
    cdef unsigned int wrong
    default_conf(&conf)
    text.length = 0
    wrong = shim_conf_read(&conf, given, told)
    shim_conf_write(&conf, &text)
    return text.bytes[: text.length].decode(), wrong
