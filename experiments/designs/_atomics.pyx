# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The atomic operations that some designs would add to every page fault, alone in a loop."""

from libc.stdint cimport uint64_t

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

    /* Count a reader as the kernel's rwlock does: by cmpxchg, as long as no writer has it. */
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


def references(uint64_t[::1] word, uint64_t pairs):
    with nogil:
        count_references(&word[0], pairs)


def read_locks(uint64_t[::1] word, uint64_t pairs):
    with nogil:
        lock_and_unlock(&word[0], pairs)
