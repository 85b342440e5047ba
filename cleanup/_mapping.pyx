# SPDX-License-Identifier: MIT
# cython: language_level=3, embedsignature=True
"""Calls of mmap() that Python's own module refuses: with MAP_FIXED, and beyond a file's end."""

from cpython.exc cimport PyErr_SetFromErrno
from libc.stdint cimport uintptr_t


cdef extern from "<sys/mman.h>" nogil:
    enum:
        MAP_ANONYMOUS
        MAP_FIXED
        MAP_NORESERVE
        MAP_PRIVATE
        PROT_NONE
        PROT_READ
        PROT_WRITE
    void *MAP_FAILED
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)


def replace(uintptr_t address, size_t length):
    """Map fresh private anonymous memory over `length` bytes at `address`. Raises OSError."""
    cdef void *result
    with nogil:
        result = mmap(
            <void *>address,
            length,
            PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
            -1,
            0,
        )
    if result == MAP_FAILED:
        PyErr_SetFromErrno(OSError)


def map_file(int fd, size_t length):
    """Map a file of any size, privately and inaccessibly. Returns the address. Raises OSError."""
    cdef void *result
    with nogil:
        result = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE, fd, 0)
    if result == MAP_FAILED:
        PyErr_SetFromErrno(OSError)
    return <uintptr_t>result


def unmap(uintptr_t address, size_t length):
    """Unmap `length` bytes at `address` by munmap(2). Raises OSError."""
    cdef int result
    with nogil:
        result = munmap(<void *>address, length)
    if result < 0:
        PyErr_SetFromErrno(OSError)
