# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Bare system calls and memory accesses, for layouts that Python's own modules can't make."""

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport errno
from libc.stdint cimport uint8_t, uintptr_t

cdef extern from "<unistd.h>" nogil:
    long _syscall "syscall"(long number, ...)


def syscall(long number, *arguments):
    """The result of a system call with up to six integer arguments; OSError where it is -1."""
    cdef unsigned long a[6]
    cdef long result
    for i in range(6):
        a[i] = (<unsigned long><long>arguments[i] if arguments[i] < 0 else arguments[i]) \
            if i < len(arguments) else 0
    with nogil:
        result = _syscall(number, a[0], a[1], a[2], a[3], a[4], a[5])
    if result == -1:
        PyErr_SetFromErrno(OSError)
    return result


def poke(uintptr_t address, size_t count, size_t stride, uint8_t value):
    """Write `value` to `count` bytes, each `stride` after the one before."""
    cdef size_t i
    with nogil:
        for i in range(count):
            (<volatile uint8_t *>(address + i * stride))[0] = value


def peek(uintptr_t address, size_t count, size_t stride) -> bytes:
    """Read `count` bytes, each `stride` after the one before."""
    cdef size_t i
    found = bytearray(count)
    cdef uint8_t[::1] view = found
    if count:
        with nogil:
            for i in range(count):
                view[i] = (<volatile uint8_t *>(address + i * stride))[0]
    return bytes(found)
