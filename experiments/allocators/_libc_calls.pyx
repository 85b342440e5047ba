# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Calls of libc, and of an allocator that replaces libc's."""

cdef extern from "<dlfcn.h>" nogil:
    void *RTLD_DEFAULT
    void *dlsym(void *handle, const char *symbol)

cdef extern from "<malloc.h>" nogil:
    int malloc_trim(size_t pad)

cdef extern from "<sys/syscall.h>" nogil:
    long SYS_getppid

cdef extern from "<unistd.h>" nogil:
    long syscall(long number, ...)

ctypedef void (*Collect)(bint force) noexcept nogil
ctypedef void (*Release)() noexcept nogil


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
