# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What a design would add to every page fault, alone in a loop."""

from libc.stdint cimport int64_t, uint64_t
from posix.time cimport CLOCK_THREAD_CPUTIME_ID, clock_gettime, timespec

cdef extern from *:
    """
    #include <stdint.h>

    static void count_references(uint64_t *word, uint64_t pairs)
    {
        while (pairs--) {
            __atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
            __atomic_fetch_sub(word, 1, __ATOMIC_SEQ_CST);
        }
    }

    /* As a kernel's rwlock counts its readers: taken by cmpxchg, as long as no writer has it. */
    static void lock_and_unlock(uint64_t *word, uint64_t pairs)
    {
        uint64_t seen;

        while (pairs--) {
            seen = __atomic_load_n(word, __ATOMIC_RELAXED) & ~1ULL;
            while (!__atomic_compare_exchange_n(word, &seen, seen + 2, 0, __ATOMIC_ACQUIRE,
                                                __ATOMIC_RELAXED))
                seen &= ~1ULL;
            __atomic_fetch_sub(word, 2, __ATOMIC_RELEASE);
        }
    }
    """
    void count_references(uint64_t *word, uint64_t pairs) nogil
    void lock_and_unlock(uint64_t *word, uint64_t pairs) nogil


ctypedef void (*Loop)(uint64_t *word, uint64_t pairs) noexcept nogil


cdef int64_t cpu_ns() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return <int64_t>time.tv_sec * 1000000000 + time.tv_nsec


cdef int64_t timed(Loop loop, uint64_t[::1] word, uint64_t pairs):
    cdef int64_t begin
    with nogil:
        begin = cpu_ns()
        loop(&word[0], pairs)
        return cpu_ns() - begin


def references(uint64_t[::1] word, uint64_t pairs):
    return timed(count_references, word, pairs)


def read_locks(uint64_t[::1] word, uint64_t pairs):
    return timed(lock_and_unlock, word, pairs)
