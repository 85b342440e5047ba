# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Loops of a known number of instructions, or of as few as possible, for parts that count them."""

from cpython.exc cimport PyErr_SetFromErrno
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t, uintptr_t

cdef extern from *:
    """
    #include <signal.h>
    #include <stdint.h>
    #include <sys/mman.h>
    #include <sys/prctl.h>

    static void die_with_parent(void)
    {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    }

    /* Each round takes two instructions. It is in assembly, as a compiler might change that. */
    static void count_for_ever(uint64_t *count)
    {
        __asm__ volatile("1: incq (%0)\\n\\tjmp 1b" : : "r"(count) : "memory", "cc");
    }

    static void two_instructions_each(uint64_t rounds)
    {
        if (rounds)
            __asm__ volatile("1: decq %0\\n\\tjnz 1b" : "+r"(rounds) : : "cc");
    }

    static int map_fresh(uintptr_t address, size_t length)
    {
        void *mapped = mmap((void *)address, length, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

        return mapped == MAP_FAILED;
    }

    static int munmap_and_mmap(uintptr_t address, size_t length)
    {
        return munmap((void *)address, length) || map_fresh(address, length);
    }

    static int mmap_blocks(uintptr_t address, size_t length, size_t block)
    {
        uintptr_t end = address + length;

        while (address < end && !map_fresh(address, block))
            address += block;
        return address < end;
    }
    """
    void die_with_parent() nogil
    void count_for_ever(uint64_t *count) nogil
    void two_instructions_each(uint64_t rounds) nogil
    int munmap_and_mmap(uintptr_t address, size_t length) nogil
    int mmap_blocks(uintptr_t address, size_t length, size_t block) nogil


def count(uint64_t[::1] counter):
    die_with_parent()
    with nogil:
        count_for_ever(&counter[0])


def loop(uint64_t instructions):
    with nogil:
        two_instructions_each(instructions // 2)


def unmap_and_map(uintptr_t address, size_t length):
    if munmap_and_mmap(address, length):
        PyErr_SetFromErrno(OSError)


def replace_by_blocks(uintptr_t address, size_t length, size_t block):
    if mmap_blocks(address, length, block):
        PyErr_SetFromErrno(OSError)
