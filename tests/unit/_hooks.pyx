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

    static void pause_or_interrupt(void);

    #define PAGES_PAUSE() pause_or_interrupt()

    #include "pages.c"

    static _Atomic int to_interrupt;

    /* Two threads give a unit back: one is interrupted by a handler that stands still. */
    static void pause_or_interrupt(void)
    {
        int turn = own_giving ? atomic_fetch_sub(&to_interrupt, 1) : 0;

        hooks_pause();
        if (turn == 2) {
            while (atomic_load(&giving) < 2)
                hooks_pause();
            pages_stand_still();
            pages_go_on(false);
        } else if (turn == 1) {
            while (!atomic_load(&still))
                hooks_pause();
            /* By now the other thread waits for this one. */
            nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, NULL);
        }
    }
    #define remap_unit remap_at_once
    #include "remap.c"
    #undef remap_unit

    /* Another thread may run between the look whether memory is locked and the move. */
    void remap_unit(uintptr_t unit)
    {
        hooks_pause();
        remap_at_once(unit);
    }

    #include "hooks.c"

    /* Stand for jemalloc's own hooks: map memory. */
    static void *map_memory(struct extent_hooks *hooks, void *wanted, size_t size,
                     size_t alignment, bool *zero, bool *is_committed,
                     unsigned int arena)
    {
        uintptr_t got = shim_map(size + alignment);

        *zero = true;
        *is_committed = true;
        return (void *)((got + alignment - 1) & -alignment);
    }

    static struct extent_hooks jemallocs = { .alloc = map_memory };

    static bool begin(enum hooks_way wanted, size_t page)
    {
        shim_set_page_size(page);
        hooks_stand_before(&jemallocs, wanted);
        return pages_start() && !remap_start();
    }

    static void *extent(size_t bytes)
    {
        bool zero = false, is_committed = false;

        return hooks_in_front.alloc(&hooks_in_front, NULL, bytes, SHIM_UNIT_SIZE, &zero, &is_committed, 0);
    }

    static bool commit_pages(void *addr, size_t bytes)
    {
        return commit(&hooks_in_front, addr, bytes, 0, bytes, 0);
    }

    static bool decommit_pages(void *addr, size_t bytes)
    {
        return decommit(&hooks_in_front, addr, bytes, 0, bytes, 0);
    }

    static void destroy_pages(void *addr, size_t bytes)
    {
        destroy(&hooks_in_front, addr, bytes, true, 0);
    }

    /* Lock memory, and do so again where the library's mlock() does. */
    static int lock_pages(void *addr, size_t bytes, bool again)
    {
        struct pages_locking locking = { 0 };
        int failed = 0;

        if (!again)
            return mlock(addr, bytes);
        while (pages_try_lock(&locking, failed))
            failed = mlock(addr, bytes);
        return failed;
    }

    static unsigned long unit_size(void)
    {
        return SHIM_UNIT_SIZE;
    }

    static uint32_t count_at(void *addr)
    {
        return atomic_load(&unit_of((uintptr_t)addr)->used);
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
    bint begin(hooks_way wanted, size_t page)
    unsigned long unit_size()
    bint pages_known(uintptr_t addr)
    void *extent(size_t bytes) nogil
    bint commit_pages(void *addr, size_t bytes) nogil
    bint decommit_pages(void *addr, size_t bytes) nogil
    void destroy_pages(void *addr, size_t bytes) nogil
    void pages_stand_still() nogil
    void pages_go_on(bint is_child)
    void hooks_pause() nogil
    bint lock_pages(void *addr, size_t bytes, bint again) nogil
    unsigned int count_at(void *addr)
    void remap_at_once(uintptr_t unit) nogil
    int to_interrupt

WAYS = {"zap": HOOKS_ZAP, "remap": HOOKS_REMAP, "nothing": HOOKS_NOTHING}


def start(str way, size_t page=4096) -> tuple[int, int]:
    """Map two units of uncommitted memory; return the address of the first, and a unit's size.

    `page` is what the hooks take for the size of a page, as long as it is a multiple of the real one.
    """
    if not begin(WAYS[way], page):
        raise MemoryError
    return <uintptr_t>extent(2 * unit_size()), unit_size()


def commit(uintptr_t addr, size_t length) -> bool:
    """Commit pages; tell whether that failed."""
    return commit_pages(<void *>addr, length)


def decommit(uintptr_t addr, size_t length) -> bool:
    """Decommit pages; tell whether that failed, after which they count as committed."""
    return decommit_pages(<void *>addr, length)


def destroy(uintptr_t addr, size_t length) -> None:
    """Give committed memory back for good."""
    destroy_pages(<void *>addr, length)


def stand_still() -> None:
    """Keep the hooks from giving units back, as before a fork."""
    with nogil:
        pages_stand_still()


def go_on(bint is_child) -> None:
    """Let the hooks go on, as after a fork."""
    pages_go_on(is_child)


def remap(uintptr_t unit) -> None:
    """Move the table of an empty unit away, and free it, if the unit lies in one mapping."""
    with nogil:
        remap_at_once(unit)


def interrupt() -> None:
    """Interrupt one of the next two threads that give a unit back, by a handler that stands still."""
    global to_interrupt
    to_interrupt = 2


def lock(uintptr_t addr, size_t length, bint again) -> bool:
    """Lock memory, and again if the hooks may have unlocked it; tell whether that failed."""
    cdef bint failed
    with nogil:
        failed = lock_pages(<void *>addr, length, again)
    return failed


def known(uintptr_t addr) -> bool:
    """Tell whether a page is recorded."""
    return pages_known(addr)


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
            # This fails as long as another thread has the memory locked.
            while decommit_pages(at, length):
                hooks_pause()
    return stale, lost


def stats() -> tuple[int, int]:
    """Return how many units were given back, and how often a thread waited."""
    cdef c_stats found = hooks_stats()
    return found.units, found.waits
