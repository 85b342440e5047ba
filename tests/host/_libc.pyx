# SPDX-License-Identifier: MIT
# cython: language_level=3
"""libc's functions by which memory is released, as a C program calls them: 0 or the errno."""

from libc cimport errno as libc_errno
from libc.stdint cimport uintptr_t
from libc.string cimport memset
from posix.types cimport off_t

cdef extern from "<sys/uio.h>":
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/mman.h>" nogil:
    void *c_mmap "mmap"(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
    int c_munmap "munmap"(void *addr, size_t length)
    void *c_mremap "mremap"(void *old, size_t old_length, size_t length, int flags, ...)
    int c_madvise "madvise"(void *addr, size_t length, int advice)
    int c_posix_madvise "posix_madvise"(void *addr, size_t length, int advice)
    ssize_t c_process_madvise "process_madvise"(
        int pidfd, const iovec *ranges, size_t nr, int advice, unsigned int flags
    )

    int c_mlock "mlock"(void *addr, size_t length)
    int c_munlock "munlock"(void *addr, size_t length)
    int c_mlockall "mlockall"(int flags)

cdef extern from "<fcntl.h>" nogil:
    int c_fallocate "fallocate"(int fd, int mode, off_t offset, off_t length)

cdef extern from "<stdlib.h>" nogil:
    void *c_malloc "malloc"(size_t length)
    void *c_calloc "calloc"(size_t number, size_t length)
    void c_free "free"(void *addr)

cdef extern from "pgtable_cleanup_shim.h":
    struct pgtable_cleanup_stats:
        unsigned long notes
        unsigned long drains
        unsigned long[3] freed

    void pgtable_cleanup_drain()
    int c_stats "pgtable_cleanup_stats"(pgtable_cleanup_stats *stats, size_t size)


cdef extern from "pgtable_cleanup_madvise.h":
    int pgtable_cleanup_madvise(void *addr, size_t length, int advice)

cdef extern from "<sys/prctl.h>" nogil:
    int c_prctl "prctl"(int option, ...)


cdef extern from "<dlfcn.h>" nogil:
    void *RTLD_DEFAULT
    void *dlsym(void *handle, const char *name)

ctypedef int (*mallctl)(const char *, void *, size_t *, void *, size_t) noexcept nogil


class Failed(Exception):
    """A call failed; the errno is the argument."""


cdef int check(bint failed) except -1:
    if failed:
        raise Failed(libc_errno.errno)
    if libc_errno.errno != 4711:
        raise AssertionError(f"errno became {libc_errno.errno}")
    return 0


def mmap(uintptr_t addr, size_t length, int prot, int flags, int fd=-1, off_t offset=0) -> int:
    """Return the address that mmap() returns. Raises Failed."""
    cdef void *made
    libc_errno.errno = 4711
    made = c_mmap(<void *>addr, length, prot, flags, fd, offset)
    check(made == <void *>-1)
    return <uintptr_t>made


def munmap(uintptr_t addr, size_t length) -> None:
    """Call munmap(). Raises Failed."""
    libc_errno.errno = 4711
    check(c_munmap(<void *>addr, length) != 0)


def mremap(uintptr_t old, size_t old_length, size_t length, int flags, uintptr_t wanted=0) -> int:
    """Return the address that mremap() returns. Raises Failed."""
    cdef void *made
    libc_errno.errno = 4711
    made = c_mremap(<void *>old, old_length, length, flags, <void *>wanted)
    check(made == <void *>-1)
    return <uintptr_t>made


def madvise(uintptr_t addr, size_t length, int advice) -> None:
    """Call madvise(). Raises Failed."""
    libc_errno.errno = 4711
    check(c_madvise(<void *>addr, length, advice) != 0)


def cleanup_madvise(uintptr_t addr, size_t length, int advice) -> None:
    """Call pgtable_cleanup_madvise() of the public header. Raises Failed."""
    libc_errno.errno = 4711
    check(pgtable_cleanup_madvise(<void *>addr, length, advice) != 0)


def posix_madvise(uintptr_t addr, size_t length, int advice) -> int:
    """Return the errno that posix_madvise() returns."""
    return c_posix_madvise(<void *>addr, length, advice)


def process_madvise(int pidfd, list ranges, int advice) -> int:
    """Advise up to 8 ranges; return the number of bytes advised. Raises Failed."""
    cdef iovec vector[8]
    cdef ssize_t done
    for i, (addr, length) in enumerate(ranges):
        vector[i].iov_base = <void *><uintptr_t>addr
        vector[i].iov_len = length
    libc_errno.errno = 4711
    done = c_process_madvise(pidfd, vector, len(ranges), advice, 0)
    check(done < 0)
    return done


def fallocate(int fd, int mode, off_t offset, off_t length) -> None:
    """Call fallocate(). Raises Failed."""
    libc_errno.errno = 4711
    check(c_fallocate(fd, mode, offset, length) != 0)


def mlock(uintptr_t addr, size_t length) -> None:
    """Call mlock(). Raises Failed."""
    libc_errno.errno = 4711
    check(c_mlock(<void *>addr, length) != 0)


def munlock(uintptr_t addr, size_t length) -> None:
    """Call munlock(). Raises Failed."""
    libc_errno.errno = 4711
    check(c_munlock(<void *>addr, length) != 0)


def mlockall(int flags) -> None:
    """Call mlockall(). Raises Failed."""
    libc_errno.errno = 4711
    check(c_mlockall(flags) != 0)


def malloc(size_t length) -> int:
    """Return the address that malloc() returns."""
    return <uintptr_t>c_malloc(length)


def calloc(size_t length) -> int:
    """Return the address that calloc() returns."""
    return <uintptr_t>c_calloc(1, length)


def free(uintptr_t addr) -> None:
    """Call free()."""
    c_free(<void *>addr)


def prctl(int option, unsigned long first, unsigned long second) -> None:
    """Call prctl() with two arguments and zeros for the others. Raises Failed."""
    libc_errno.errno = 4711
    check(c_prctl(option, first, second, <unsigned long>0, <unsigned long>0) < 0)


def drain() -> None:
    """Have the library drain, if it is preloaded."""
    if <void *>pgtable_cleanup_drain:
        pgtable_cleanup_drain()


def stats() -> tuple[int, int, int] | None:
    """Return the library's counts of notes, drains and freed PTE tables; None without it."""
    cdef pgtable_cleanup_stats found
    if not <void *>c_stats:
        return None
    if c_stats(&found, sizeof(found)):
        raise AssertionError("the library knows less than its header")
    return found.notes, found.drains, found.freed[0]


def fill(uintptr_t addr, size_t length, int value) -> None:
    """Call memset()."""
    memset(<void *>addr, value, length)


def byte(uintptr_t addr) -> int:
    """Return the byte at an address."""
    return (<unsigned char *>addr)[0]


def bytes_not(uintptr_t addr, size_t length, int value) -> int:
    """Return how many bytes have another value."""
    cdef size_t i
    cdef size_t found = 0
    cdef unsigned char *at = <unsigned char *>addr
    for i in range(length):
        found += at[i] != value
    return found


cdef int in_jemalloc(str name, void *old, size_t *old_length, void *new, size_t length) except -1:
    cdef mallctl call = <mallctl>dlsym(RTLD_DEFAULT, "mallctl")
    cdef int err = call(name.encode(), old, old_length, new, length) if call else -1
    if err:
        raise Failed(err)
    return 0


def size_in_jemalloc(str name) -> int:
    """Read a size, perhaps less than 0, by the mallctl() of this process. Raises Failed."""
    cdef ssize_t value
    cdef size_t length = sizeof(value)
    in_jemalloc(name, &value, &length, NULL, 0)
    return value


def set_size_in_jemalloc(str name, size_t value) -> None:
    """Write a size by the mallctl() of this process. Raises Failed."""
    in_jemalloc(name, NULL, NULL, &value, sizeof(value))
