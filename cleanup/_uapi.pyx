# SPDX-License-Identifier: MIT
# cython: language_level=3, embedsignature=True
"""The two ioctls of /dev/pgtable_cleanup, and madvise(): one function for each system call.

Nothing is retried, split or added up here, and nothing is judged but errno. Every constant and
every struct is the UAPI header's own, taken when this file is compiled.
"""

import os
from typing import NamedTuple

from cpython.buffer cimport Py_buffer, PyBUF_ANY_CONTIGUOUS, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport errno
from libc.stdint cimport int32_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset


cdef extern from "<sys/ioctl.h>" nogil:
    int c_ioctl "ioctl"(int fd, unsigned long request, void *argument)


cdef extern from "<sys/mman.h>" nogil:
    int c_madvise "madvise"(void *address, size_t length, int advice)


cdef extern from "<linux/types.h>" nogil:
    ctypedef unsigned long long __u64


cdef extern from "pgtable_cleanup.h" nogil:
    cdef enum:
        _MADV_CLEANUP_PGTABLE "MADV_CLEANUP_PGTABLE"
        _ABI_VERSION "PGTABLE_CLEANUP_ABI_VERSION"
        _SCAN_ONLY "PGTABLE_CLEANUP_SCAN_ONLY"
        _WHOLE_MM "PGTABLE_CLEANUP_WHOLE_MM"
        _ZERO_PAGES "PGTABLE_CLEANUP_ZERO_PAGES"
        _LEVEL_PTE "PGTABLE_CLEANUP_LEVEL_PTE"
        _LEVEL_PMD "PGTABLE_CLEANUP_LEVEL_PMD"
        _LEVEL_PUD "PGTABLE_CLEANUP_LEVEL_PUD"
        _NR_LEVELS "PGTABLE_CLEANUP_NR_LEVELS"
        _SKIP_MAPPED "PGTABLE_CLEANUP_SKIP_MAPPED"
        _SKIP_SWAP "PGTABLE_CLEANUP_SKIP_SWAP"
        _SKIP_MIGRATION "PGTABLE_CLEANUP_SKIP_MIGRATION"
        _SKIP_MARKER "PGTABLE_CLEANUP_SKIP_MARKER"
        _SKIP_OTHER "PGTABLE_CLEANUP_SKIP_OTHER"
        _SKIP_UFFD "PGTABLE_CLEANUP_SKIP_UFFD"
        _SKIP_PFNMAP "PGTABLE_CLEANUP_SKIP_PFNMAP"
        _SKIP_CONTENDED "PGTABLE_CLEANUP_SKIP_CONTENDED"
        _SKIP_TOO_MANY_LOCKS "PGTABLE_CLEANUP_SKIP_TOO_MANY_LOCKS"
        _SKIP_REFILLED "PGTABLE_CLEANUP_SKIP_REFILLED"
        _SKIP_CHANGED "PGTABLE_CLEANUP_SKIP_CHANGED"
        _SKIP_VMA "PGTABLE_CLEANUP_SKIP_VMA"
        _SKIP_THP "PGTABLE_CLEANUP_SKIP_THP"
        _SKIP_HUGETLB "PGTABLE_CLEANUP_SKIP_HUGETLB"
        _SKIP_KSM_ZERO "PGTABLE_CLEANUP_SKIP_KSM_ZERO"
        _SKIP_LOCKED "PGTABLE_CLEANUP_SKIP_LOCKED"
        _SKIP_HUGE_ZERO "PGTABLE_CLEANUP_SKIP_HUGE_ZERO"
        _NR_SKIPS "PGTABLE_CLEANUP_NR_SKIPS"
        _MAX_RANGES "PGTABLE_CLEANUP_MAX_RANGES"
        _FEATURE_UNPROVED "PGTABLE_CLEANUP_FEATURE_UNPROVED"

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
ABI_VERSION = _ABI_VERSION
IOC_RECLAIM = _IOC_RECLAIM
IOC_FEATURES = _IOC_FEATURES
MADV_CLEANUP_PGTABLE = _MADV_CLEANUP_PGTABLE
SCAN_ONLY = _SCAN_ONLY
WHOLE_MM = _WHOLE_MM
ZERO_PAGES = _ZERO_PAGES
FEATURE_UNPROVED = _FEATURE_UNPROVED
MAX_RANGES = _MAX_RANGES
# Both are in the order of the counts.
LEVELS = {"pte": _LEVEL_PTE, "pmd": _LEVEL_PMD, "pud": _LEVEL_PUD}
SKIP_REASONS = {
    _SKIP_MAPPED: "mapped",
    _SKIP_SWAP: "swap",
    _SKIP_MIGRATION: "migration",
    _SKIP_MARKER: "marker",
    _SKIP_OTHER: "other",
    _SKIP_UFFD: "uffd",
    _SKIP_PFNMAP: "pfnmap",
    _SKIP_CONTENDED: "contended",
    _SKIP_TOO_MANY_LOCKS: "too_many_locks",
    _SKIP_REFILLED: "refilled",
    _SKIP_CHANGED: "changed",
    _SKIP_VMA: "vma",
    _SKIP_THP: "thp",
    _SKIP_HUGETLB: "hugetlb",
    _SKIP_KSM_ZERO: "ksm_zero",
    _SKIP_LOCKED: "locked",
    _SKIP_HUGE_ZERO: "huge_zero",
}


class Counts(NamedTuple):
    """What one reclaim ioctl wrote: where it stopped, and its counts."""

    next_range: int
    next_level: int
    next_addr: int
    holes: int
    tables: tuple
    empty: tuple
    freed: tuple
    zero_pages_dropped: int
    skipped: tuple
    flushes: int
    longest_hold_ns: int


class ModuleFeatures(NamedTuple):
    """What the features ioctl wrote; `flags`, `levels` and `features` are bits."""

    abi_version: int
    features: int
    flags: int
    levels: int
    max_ranges: int
    batch: int
    default_max_hold_ns: int


class CallError(OSError):
    """A reclaim ioctl failed. `counts` is what the kernel had done by then."""

    def __init__(self, number, counts):
        super().__init__(number, os.strerror(number))
        self.counts = counts


def open_device():
    """Open the module's device. The caller closes the descriptor. Raises OSError."""
    return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)


def features(int fd):
    """Ask by the features ioctl what the loaded module can do. Raises OSError."""
    cdef pgtable_cleanup_features answer
    cdef int result
    cdef int number
    memset(&answer, 0, sizeof(answer))
    answer.size = sizeof(answer)
    with nogil:
        result = c_ioctl(fd, _IOC_FEATURES, &answer)
        number = errno
    if result < 0:
        raise OSError(number, os.strerror(number))
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
    uint32_t levels=_LEVEL_PTE,
    int32_t pidfd=-1,
    ranges=(),
    uint64_t max_tables=0,
    uint64_t max_hold_ns=0,
    cursor=(0, 0, 0),
):
    """Make one reclaim ioctl over `ranges`, which are pairs of address and length in bytes.

    It goes on from `cursor`: next_range, next_level and next_addr of the counts before. Raises
    CallError.
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
        _numbers(args.tables, _NR_LEVELS),
        _numbers(args.empty, _NR_LEVELS),
        _numbers(args.freed, _NR_LEVELS),
        args.zero_pages_dropped,
        _numbers(args.skipped, _NR_SKIPS),
        args.flushes,
        args.longest_hold_ns,
    )
    if result < 0:
        raise CallError(number, counts)
    return counts


def madvise(uintptr_t address, size_t length, int advice):
    """Make madvise(2) on this process's own memory, by address. Raises OSError."""
    cdef int result
    cdef int number
    with nogil:
        result = c_madvise(<void *>address, length, advice)
        number = errno
    if result < 0:
        raise OSError(number, os.strerror(number))


def address_of(object buffer):
    """Return where a buffer's bytes begin. This holds for as long as the caller keeps the buffer.

    Raises TypeError for what has no buffer protocol, and BufferError if it is not contiguous.
    """
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_ANY_CONTIGUOUS)
    try:
        return <uintptr_t>view.buf
    finally:
        PyBuffer_Release(&view)
