# SPDX-License-Identifier: MIT
# cython: language_level=3
"""The extent hooks without jemalloc: threads commit and decommit pages of the same unit."""

from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memset

cdef extern from *:
    """
    #include <time.h>

    static void hooks_pause(void)
    {
        nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
    }

    #define HOOKS_PAUSE() hooks_pause()

    /* A kernel older than 5.18 answers that it knows no such advice. */
    #include <sys/mman.h>
    #undef MADV_DONTNEED_LOCKED
    static int dontneed_locked = 24;
    #define MADV_DONTNEED_LOCKED dontneed_locked
    #include "find.c"
    #include "hooks.c"

    static int begin(size_t bytes, enum hooks_way wanted)
    {
        way = wanted;
        return reserve(bytes);
    }

    static void *extent(size_t bytes)
    {
        bool zero = false, committed_now = false;

        return alloc(&own_hooks, NULL, bytes, 1 << 21, &zero, &committed_now, 0);
    }

    static bool commit_pages(void *addr, size_t bytes)
    {
        return commit(&own_hooks, addr, bytes, 0, bytes, 0);
    }

    static bool decommit_pages(void *addr, size_t bytes)
    {
        return decommit(&own_hooks, addr, bytes, 0, bytes, 0);
    }

    static void destroy_pages(void *addr, size_t bytes)
    {
        destroy(&own_hooks, addr, bytes, true, 0);
    }

    static uint32_t count_at(void *addr)
    {
        return atomic_load(count_of((uintptr_t)addr));
    }
    """
    enum hooks_way:
        HOOKS_NOTHING
        HOOKS_ZAP
        HOOKS_REMAP

    ctypedef struct c_stats "struct hooks_stats":
        uint64_t units
        uint64_t waits

    c_stats hooks_stats()
    int dontneed_locked
    int begin(size_t bytes, hooks_way wanted)
    void *extent(size_t bytes) nogil
    bint commit_pages(void *addr, size_t bytes) nogil
    bint decommit_pages(void *addr, size_t bytes) nogil
    void destroy_pages(void *addr, size_t bytes) nogil
    unsigned int count_at(void *addr)

WAYS = {"zap": HOOKS_ZAP, "remap": HOOKS_REMAP, "nothing": HOOKS_NOTHING}


def start(str way, bint is_old_kernel=False) -> int:
    """Reserve two units of uncommitted memory, and return the address of the first."""
    global dontneed_locked
    if is_old_kernel:
        dontneed_locked = 4711
    if not begin(64 << 20, WAYS[way]):
        raise MemoryError
    return <uintptr_t>extent(4 << 20)


def commit(uintptr_t addr, size_t length) -> bool:
    """Commit pages; tell whether that failed."""
    return commit_pages(<void *>addr, length)


def decommit(uintptr_t addr, size_t length) -> bool:
    """Decommit pages; tell whether that failed, after which they count as committed."""
    return decommit_pages(<void *>addr, length)


def destroy(uintptr_t addr, size_t length) -> None:
    """Give committed memory back for good."""
    destroy_pages(<void *>addr, length)


def count(uintptr_t addr) -> int:
    """Return the number of committed pages of a unit."""
    return count_at(<void *>addr)


def use(uintptr_t addr, size_t length, size_t rounds, int value) -> tuple[int, int]:
    """Commit, fill, check and decommit; count the rounds with old bytes, and with lost ones."""
    cdef size_t turn, i
    cdef int stale = 0
    cdef int lost = 0
    cdef unsigned char *at = <unsigned char *>addr
    with nogil:
        for turn in range(rounds):
            if commit_pages(at, length):
                lost += 1
                break
            for i in range(0, length, 4096):
                stale += at[i] != 0
            memset(at, value, length)
            for i in range(0, length, 4096):
                lost += at[i] != value
            if decommit_pages(at, length):
                lost += 1
                break
    return stale, lost


def stats() -> tuple[int, int]:
    """Return how many units were given back, and how often a thread waited."""
    cdef c_stats found = hooks_stats()
    return found.units, found.waits
