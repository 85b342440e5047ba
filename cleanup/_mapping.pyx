# SPDX-License-Identifier: MIT
# cython: language_level=3, embedsignature=True
"""mmap(MAP_FIXED), which Python's own mmap module can't ask for."""

import os

from libc.errno cimport errno
from libc.stdint cimport uintptr_t


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


def replace(uintptr_t address, size_t length):
    """Put fresh private anonymous memory in place of what is mapped there. Raises OSError."""
    cdef void *result
    cdef int number
    with nogil:
        result = mmap(
            <void *>address,
            length,
            PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
            -1,
            0,
        )
        number = errno
    if result == MAP_FAILED:
        raise OSError(number, os.strerror(number))
