# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Functions that fault memory in, release it, and time this, without the GIL."""

from array import array

from cpython.exc cimport PyErr_SetFromErrno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport usleep

cdef extern from "<sys/mman.h>" nogil:
    int MADV_DONTNEED
    int madvise(void *address, size_t length, int advice)

cdef extern from *:
    """
    #include <stdint.h>
    #include <sys/ioctl.h>
    #include "pgtable_cleanup.h"

    static inline unsigned char load(const unsigned char *byte)
    {
        return __atomic_load_n(byte, __ATOMIC_RELAXED);
    }

    /* Have the module free the empty PTE tables of a range. Add to the counts of calls and of freed
       tables, and raise the longest lock hold, in nanoseconds, where a call held longer. */
    static int free_tables(int fd, unsigned char *memory, size_t length, uint64_t max_hold_ns,
                           uint64_t *calls, uint64_t *freed, uint64_t *longest)
    {
        struct pgtable_cleanup_range range = { .addr = (uintptr_t)memory, .len = length };
        struct pgtable_cleanup_args args = {
            .size = sizeof(args),
            .levels = PGTABLE_CLEANUP_LEVEL_PTE,
            .pidfd = -1,
            .inode_fd = -1,
            .nr_ranges = 1,
            .ranges = (uintptr_t)&range,
            .max_hold_ns = max_hold_ns,
        };

        while (args.next_range < 1) {
            if (ioctl(fd, PGTABLE_CLEANUP_IOC_RECLAIM, &args))
                return -1;
            ++*calls;
            *freed += args.freed[0];
            if (args.longest_hold_ns > *longest)
                *longest = args.longest_hold_ns;
        }
        return 0;
    }
    """
    unsigned char load(const unsigned char *byte) nogil
    int free_tables(
        int fd, unsigned char *memory, size_t length, uint64_t max_hold_ns,
        uint64_t *calls, uint64_t *freed, uint64_t *longest
    ) nogil

cdef enum:
    PAGE = 4096
    UNIT = 2 << 20
    WAIT_US = 100
    # This is less than a table maps: since Linux 6.14 a release of 2 MiB at once frees the table.
    RELEASE = 1 << 20


cdef inline int64_t now_ns() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return <int64_t>time.tv_sec * 1000000000 + time.tv_nsec


cdef int release_spans(
    unsigned char *memory, size_t length, size_t stride, size_t span
) noexcept nogil:
    cdef size_t offset = 0
    while offset < length:
        if madvise(memory + offset, min(span, length - offset), MADV_DONTNEED):
            return -1
        offset += stride
    return 0


cdef int check(size_t length, size_t stride) except -1:
    if length == 0 or length % PAGE or stride == 0 or stride % PAGE:
        raise ValueError(f"a stride of {stride} in {length} bytes: both must be of whole pages")
    return 0


def touch(unsigned char[::1] memory, *, size_t stride):
    cdef size_t offset = 0, length = memory.shape[0]
    cdef unsigned char *base
    check(length, stride)
    base = &memory[0]
    with nogil:
        while offset < length:
            base[offset] = 1
            offset += stride


def release(unsigned char[::1] memory, *, size_t stride=RELEASE, size_t span=RELEASE):
    cdef int failed
    check(memory.shape[0], stride)
    with nogil:
        failed = release_spans(&memory[0], memory.shape[0], stride, span)
    if failed:
        PyErr_SetFromErrno(OSError)


def release_and_free(
    unsigned char[::1] memory, *, size_t span, size_t every, int fd, uint64_t max_hold_ns
):
    cdef size_t offset = 0, length = memory.shape[0], batch = every * UNIT
    cdef unsigned char *base = &memory[0]
    cdef uint64_t calls = 0, freed = 0, longest = 0
    cdef int failed = 0
    if batch == 0 or length % batch:
        raise ValueError(f"{length} bytes are no whole number of batches of {every} times 2 MiB")
    with nogil:
        while offset < length and not failed:
            failed = release_spans(base + offset, batch, UNIT, span)
            if not failed:
                failed = free_tables(
                    fd, base + offset, batch, max_hold_ns, &calls, &freed, &longest
                )
            offset += batch
    if failed:
        PyErr_SetFromErrno(OSError)
    return calls, freed, longest


def record(unsigned char[::1] memory, uint64_t[:, ::1] latencies, const unsigned char[::1] phase):
    cdef size_t offset = 0, length = memory.shape[0]
    cdef size_t rows = latencies.shape[0], room = latencies.shape[1]
    cdef uint64_t[::1] recorded = array("Q", bytes(8 * rows))
    cdef unsigned char *base
    cdef const unsigned char *now
    cdef size_t row
    cdef int64_t begin, end, longest_release = 0
    cdef int failed = 0
    check(length, PAGE)
    if phase.shape[0] != 1:
        raise ValueError(f"one byte tells the phase, not {phase.shape[0]}")
    base = &memory[0]
    now = &phase[0]
    with nogil:
        while not failed:
            row = load(now)
            if row == 0:
                # Sleep: if this thread ran, every TLB flush of another would interrupt its CPU.
                usleep(WAIT_US)
                continue
            row -= 1
            if row >= rows or recorded[row] == room:
                break
            begin = now_ns()
            base[offset] = 1
            end = now_ns()
            latencies[row, recorded[row]] = end - begin
            recorded[row] += 1
            offset += PAGE
            if offset == length:
                offset = 0
                failed = release_spans(base, length, RELEASE, RELEASE)
                longest_release = max(longest_release, now_ns() - end)
    if failed:
        PyErr_SetFromErrno(OSError)
    return list(recorded), longest_release
