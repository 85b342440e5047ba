# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Loops whose instructions are known or must be few, for parts that count them."""

from cpython.exc cimport PyErr_SetFromErrno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef extern from "<sys/mman.h>" nogil:
    enum:
        MAP_ANONYMOUS
        MAP_FIXED
        MAP_NORESERVE
        MAP_PRIVATE
        PROT_READ
        PROT_WRITE
    void *MAP_FAILED
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)

cdef extern from *:
    """
    #include <signal.h>
    #include <stdint.h>
    #include <sys/prctl.h>

    static void die_with_parent(void)
    {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    }

    /* Two instructions a round, which no compiler may change. */
    static void count_for_ever(uint64_t *count)
    {
        __asm__ volatile("1: incq (%0)\\n\\tjmp 1b" : : "r"(count) : "memory", "cc");
    }

    static void two_instructions_each(uint64_t rounds)
    {
        if (rounds)
            __asm__ volatile("1: decq %0\\n\\tjnz 1b" : "+r"(rounds) : : "cc");
    }
    """
    void die_with_parent() nogil
    void count_for_ever(uint64_t *count) nogil
    void two_instructions_each(uint64_t rounds) nogil


def count(uint64_t[::1] counter):
    die_with_parent()
    with nogil:
        count_for_ever(&counter[0])


def loop(uint64_t instructions):
    with nogil:
        two_instructions_each(instructions // 2)


def sample(const uint64_t[::1] counter):
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return <int64_t>time.tv_sec * 1000000000 + time.tv_nsec, counter[0]


cdef int map_fresh(uintptr_t address, size_t length) noexcept nogil:
    cdef void *result = mmap(
        <void *>address,
        length,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
        -1,
        0,
    )
    return -1 if result == MAP_FAILED else 0


def unmap_and_map(uintptr_t address, size_t length):
    cdef int failed
    with nogil:
        failed = munmap(<void *>address, length)
        if not failed:
            failed = map_fresh(address, length)
    if failed:
        PyErr_SetFromErrno(OSError)


def replace_by_blocks(uintptr_t address, size_t length, size_t block):
    cdef size_t offset = 0
    cdef int failed = 0
    if block == 0 or length % block:
        raise ValueError(f"{length} bytes are no whole number of blocks of {block}")
    with nogil:
        while offset < length and not failed:
            failed = map_fresh(address + offset, block)
            offset += block
    if failed:
        PyErr_SetFromErrno(OSError)
