# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Having the process's allocator give unused memory back, whichever it is."""

cdef extern from "<dlfcn.h>" nogil:
    void *RTLD_DEFAULT
    void *dlsym(void *handle, const char *symbol)

ctypedef int (*Trim)(size_t pad) noexcept nogil
ctypedef void (*Collect)(bint force) noexcept nogil
ctypedef void (*Release)() noexcept nogil


def give_back() -> str:
    """Have it done by the allocator's own function; the name of that.

    Of mimalloc mi_collect(), of tcmalloc MallocExtension_ReleaseFreeMemory(), else libc's
    malloc_trim().
    """
    cdef void *found = dlsym(RTLD_DEFAULT, b"mi_collect")
    if found != NULL:
        with nogil:
            (<Collect>found)(True)
        return "mi_collect"
    found = dlsym(RTLD_DEFAULT, b"MallocExtension_ReleaseFreeMemory")
    if found != NULL:
        with nogil:
            (<Release>found)()
        return "MallocExtension_ReleaseFreeMemory"
    found = dlsym(RTLD_DEFAULT, b"malloc_trim")
    with nogil:
        (<Trim>found)(0)
    return "malloc_trim"
