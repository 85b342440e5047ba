# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Calls of libc, and of an allocator that replaces libc's."""

from libc.stdlib cimport free, malloc

cdef extern from "<dlfcn.h>" nogil:
    void *RTLD_DEFAULT
    void *dlsym(void *handle, const char *symbol)

cdef extern from "<malloc.h>" nogil:
    int malloc_trim(size_t pad)

cdef extern from "<sys/mman.h>" nogil:
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MADV_DONTNEED
    void *MAP_FAILED
    void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset)
    int madvise(void *addr, size_t length, int advice)
    int munmap(void *addr, size_t length)

cdef extern from "<sys/syscall.h>" nogil:
    long SYS_getppid

cdef extern from "<unistd.h>" nogil:
    long syscall(long number, ...)

ctypedef void (*Collect)(bint force) noexcept nogil
ctypedef void (*Release)() noexcept nogil


cdef enum:
    PAGE = 4096

# The mappings of mmaps().
cdef void **mappings = NULL


def give_back():
    cdef void *collect = dlsym(RTLD_DEFAULT, b"mi_collect")
    cdef void *release = dlsym(RTLD_DEFAULT, b"MallocExtension_ReleaseFreeMemory")
    with nogil:
        if collect != NULL:
            (<Collect>collect)(True)
        elif release != NULL:
            (<Release>release)()
        else:
            malloc_trim(0)


def syscalls(size_t times):
    cdef size_t i
    with nogil:
        for i in range(times):
            syscall(SYS_getppid)


def mmaps(size_t number):
    global mappings
    cdef size_t i
    cdef bint failed = False
    free(mappings)
    mappings = <void **>malloc(number * sizeof(void *))
    if mappings == NULL:
        raise MemoryError
    with nogil:
        for i in range(number):
            mappings[i] = mmap(
                NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
            )
            failed |= mappings[i] == MAP_FAILED
    if failed:
        raise MemoryError


def madvises(size_t number):
    cdef size_t i
    cdef bint failed = False
    with nogil:
        for i in range(number):
            failed |= madvise(mappings[i], PAGE, MADV_DONTNEED)
    if failed:
        raise OSError("madvise() failed")


def munmaps(size_t number):
    cdef size_t i
    cdef bint failed = False
    with nogil:
        for i in range(number):
            failed |= munmap(mappings[i], PAGE)
    if failed:
        raise OSError("munmap() failed")
