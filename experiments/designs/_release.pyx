# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Releases and the calls that follow them, in one loop: Python's own instructions would drown them."""

from cpython.exc cimport PyErr_SetFromErrno
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

cdef extern from "<sys/mman.h>" nogil:
    int MADV_DONTNEED
    int madvise(void *address, size_t length, int advice)

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, void *argument)

cdef extern from "<linux/types.h>" nogil:
    ctypedef unsigned long long __u64

cdef extern from "pgtable_cleanup.h" nogil:
    unsigned long PGTABLE_CLEANUP_IOC_RECLAIM
    uint32_t PGTABLE_CLEANUP_LEVEL_PTE

    struct pgtable_cleanup_range:
        uint64_t addr
        uint64_t len

    struct pgtable_cleanup_args:
        uint32_t size
        uint32_t levels
        int32_t pidfd
        int32_t inode_fd
        uint32_t nr_ranges
        uint64_t ranges
        uint64_t max_hold_ns
        uint32_t next_range
        __u64 *freed
        uint64_t longest_hold_ns

cdef enum:
    UNIT = 2 << 20


def release(unsigned char[::1] memory, *, size_t block, size_t every, int fd, uint64_t max_hold_ns):
    cdef unsigned char *base = &memory[0]
    cdef size_t units = <size_t>memory.shape[0] // UNIT
    cdef size_t unit
    cdef uint64_t freed = 0, longest = 0, calls = 0
    cdef pgtable_cleanup_args call
    cdef pgtable_cleanup_range span
    cdef int failed = 0
    if <uintptr_t>base % UNIT or memory.shape[0] % UNIT or (every and units % every):
        raise ValueError("the memory is not of whole units, or not of whole batches of them")
    with nogil:
        for unit in range(units):
            failed = madvise(base + unit * UNIT, block, MADV_DONTNEED)
            if failed:
                break
            if not every or (unit + 1) % every:
                continue
            span.addr = <uintptr_t>base + (unit + 1 - every) * UNIT
            span.len = every * UNIT
            memset(&call, 0, sizeof(call))
            call.size = sizeof(call)
            call.levels = PGTABLE_CLEANUP_LEVEL_PTE
            call.pidfd = call.inode_fd = -1
            call.nr_ranges = 1
            call.ranges = <uint64_t><uintptr_t>&span
            call.max_hold_ns = max_hold_ns
            while call.next_range < 1 and not failed:
                failed = ioctl(fd, PGTABLE_CLEANUP_IOC_RECLAIM, &call)
                calls += 1
            if failed:
                break
            freed += call.freed[0]
            longest = max(longest, call.longest_hold_ns)
    if failed:
        PyErr_SetFromErrno(OSError)
    return calls, freed, longest
