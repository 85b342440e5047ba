# SPDX-License-Identifier: MIT
# cython: language_level=3
"""System calls by libc's syscall()."""

cdef extern from "<sys/syscall.h>" nogil:
    long SYS_getppid

cdef extern from "<unistd.h>" nogil:
    long syscall(long number, ...)


def ask(size_t times) -> None:
    """One that does nothing, so often."""
    cdef size_t i
    with nogil:
        for i in range(times):
            syscall(SYS_getppid)
