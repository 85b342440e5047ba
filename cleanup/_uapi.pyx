# SPDX-License-Identifier: MIT
# cython: language_level=3, embedsignature=True
"""The two ioctls of /dev/pgtable_cleanup, and madvise(): one function for each system call.

The functions check errno and nothing else: callers retry, split requests and add up counts. All
constants and structs come from the UAPI header when this file is compiled; only the names of the
skip reasons come from `SkipReason`.
"""

import os

from cpython.buffer cimport Py_buffer, PyBUF_ANY_CONTIGUOUS, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_SetFromErrno
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport errno
from libc.stdint cimport int32_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

from cleanup._answers import CallError, Counts, ModuleFeatures
from cleanup.skip_reason import SkipReason


cdef extern from "<sys/ioctl.h>" nogil:
    int c_ioctl "ioctl"(int fd, unsigned long request, void *argument)


cdef extern from "<sys/mman.h>" nogil:
    int c_madvise "madvise"(void *address, size_t length, int advice)


cdef extern from "<linux/types.h>" nogil:
    ctypedef unsigned long long __u64


cdef extern from "pgtable_cleanup.h" nogil:
    # cpdef shows these to Python under the same names.
    cpdef enum:
        ABI_VERSION "PGTABLE_CLEANUP_ABI_VERSION"
        FEATURE_UNPROVED "PGTABLE_CLEANUP_FEATURE_UNPROVED"
        MADV_CLEANUP_PGTABLE
        MAX_RANGES "PGTABLE_CLEANUP_MAX_RANGES"
        SCAN_ONLY "PGTABLE_CLEANUP_SCAN_ONLY"
        WHOLE_MM "PGTABLE_CLEANUP_WHOLE_MM"
        ZERO_PAGES "PGTABLE_CLEANUP_ZERO_PAGES"

    cdef enum:
        LEVEL_PTE "PGTABLE_CLEANUP_LEVEL_PTE"
        LEVEL_PMD "PGTABLE_CLEANUP_LEVEL_PMD"
        LEVEL_PUD "PGTABLE_CLEANUP_LEVEL_PUD"
        NR_LEVELS "PGTABLE_CLEANUP_NR_LEVELS"
        NR_SKIPS "PGTABLE_CLEANUP_NR_SKIPS"

    const char *_DEVICE "PGTABLE_CLEANUP_DEVICE"
    unsigned long _IOC_RECLAIM "PGTABLE_CLEANUP_IOC_RECLAIM"
    unsigned long _IOC_FEATURES "PGTABLE_CLEANUP_IOC_FEATURES"

    struct pgtable_cleanup_range:
        uint64_t addr
        uint64_t len

    struct pgtable_cleanup_args:
        uint32_t size
        uint32_t flags
        uint32_t levels
        int32_t pidfd
        int32_t inode_fd
        uint32_t nr_ranges
        uint64_t ranges
        uint64_t max_tables
        uint64_t max_hold_ns
        uint32_t next_range
        uint32_t next_level
        uint64_t next_addr
        uint64_t holes
        __u64 *tables
        __u64 *empty
        __u64 *freed
        uint64_t zero_pages_dropped
        __u64 *skipped
        uint64_t flushes
        uint64_t longest_hold_ns

    struct pgtable_cleanup_features:
        uint32_t size
        uint32_t abi_version
        uint32_t features
        uint32_t flags
        uint32_t levels
        uint32_t max_ranges
        uint32_t batch
        uint64_t default_max_hold_ns


DEVICE = _DEVICE.decode()
IOC_RECLAIM = _IOC_RECLAIM
IOC_FEATURES = _IOC_FEATURES
# The module's arrays of counts have this order; `SkipReason` follows the header, too.
LEVELS = {"pte": LEVEL_PTE, "pmd": LEVEL_PMD, "pud": LEVEL_PUD}
SKIP_REASONS = dict(enumerate(SkipReason))


def open_device():
    """Open the module's device. The caller closes the descriptor. Raises OSError."""
    return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)


def features(int fd):
    """Return the answer of the features ioctl: what the loaded module can do. Raises OSError."""
    cdef pgtable_cleanup_features answer
    cdef int result
    memset(&answer, 0, sizeof(answer))
    answer.size = sizeof(answer)
    with nogil:
        result = c_ioctl(fd, _IOC_FEATURES, &answer)
    if result < 0:
        PyErr_SetFromErrno(OSError)
    return ModuleFeatures(
        answer.abi_version,
        answer.features,
        answer.flags,
        answer.levels,
        answer.max_ranges,
        answer.batch,
        answer.default_max_hold_ns,
    )


cdef tuple _numbers(const __u64 *array, int length):
    return tuple([array[i] for i in range(length)])


def call(
    int fd,
    *,
    uint32_t flags=0,
    uint32_t levels=LEVEL_PTE,
    int32_t pidfd=-1,
    ranges=(),
    uint64_t max_tables=0,
    uint64_t max_hold_ns=0,
    cursor=(0, 0, 0),
):
    """Make one reclaim ioctl over `ranges`, which are pairs of address and length in bytes.

    The work goes on from `cursor`: the next_range, next_level and next_addr of the call before.
    Raises CallError.
    """
    cdef pgtable_cleanup_args args
    cdef pgtable_cleanup_range *vector = NULL
    cdef int result
    cdef int number
    cdef size_t length = len(ranges)
    cdef size_t i
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.flags = flags
    args.levels = levels
    args.pidfd = pidfd
    args.inode_fd = -1
    args.max_tables = max_tables
    args.max_hold_ns = max_hold_ns
    args.next_range, args.next_level, args.next_addr = cursor
    try:
        if length > 0:
            vector = <pgtable_cleanup_range *>PyMem_Malloc(length * sizeof(vector[0]))
            if vector == NULL:
                raise MemoryError
            for i in range(length):
                vector[i].addr, vector[i].len = ranges[i]
            args.nr_ranges = length
            args.ranges = <uint64_t><uintptr_t>vector
        with nogil:
            result = c_ioctl(fd, _IOC_RECLAIM, &args)
            number = errno
    finally:
        PyMem_Free(vector)
    counts = Counts(
        args.next_range,
        args.next_level,
        args.next_addr,
        args.holes,
        _numbers(args.tables, NR_LEVELS),
        _numbers(args.empty, NR_LEVELS),
        _numbers(args.freed, NR_LEVELS),
        args.zero_pages_dropped,
        _numbers(args.skipped, NR_SKIPS),
        args.flushes,
        args.longest_hold_ns,
    )
    if result < 0:
        raise CallError(number, counts)
    return counts


def madvise(uintptr_t address, size_t length, int advice):
    """Call madvise(2) on this process's own memory, given by address. Raises OSError."""
    cdef int result
    with nogil:
        result = c_madvise(<void *>address, length, advice)
    if result < 0:
        PyErr_SetFromErrno(OSError)


def address_of(object buffer):
    """Return the address of a buffer's first byte, valid while the caller keeps the buffer.

    Raises TypeError for an object without a buffer, and BufferError if it is not contiguous.
    """
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_ANY_CONTIGUOUS)
    try:
        return <uintptr_t>view.buf
    finally:
        PyBuffer_Release(&view)
