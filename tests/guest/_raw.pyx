# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Bare system calls and memory accesses, for layouts that Python's own modules can't make."""

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint64_t, uintptr_t
from libc.string cimport memcpy

cdef extern from "<unistd.h>" nogil:
    long _syscall "syscall"(long number, ...)

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, void *argument)

cdef extern from "<sys/mman.h>" nogil:
    int MADV_DONTNEED
    int madvise(void *address, size_t length, int advice)

cdef extern from "<sched.h>" nogil:
    int clone(int (*function)(void *) noexcept nogil, void *stack, int flags, void *argument)
    int CLONE_VM

cdef extern from "<signal.h>" nogil:
    int SIGCHLD, SIGKILL

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long argument)
    int PR_SET_PDEATHSIG

cdef extern from "<unistd.h>" nogil:
    int pause()
    int usleep(unsigned int microseconds)

cdef extern from * nogil:
    uint64_t load_acquire "__atomic_load_n"(uint64_t *from_, int order)
    void store_release "__atomic_store_n"(uint64_t *to, uint64_t value, int order)
    int ACQUIRE "__ATOMIC_ACQUIRE"
    int RELEASE "__ATOMIC_RELEASE"
    void relax "__builtin_ia32_pause"()


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


def store(uintptr_t address, const uint8_t[::1] content):
    """Copy `content` to an address."""
    cdef size_t length = content.shape[0]
    if length:
        with nogil:
            memcpy(<void *>address, &content[0], length)


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


cdef uint8_t stack_beside[16384]


cdef int sleep_beside(void *unused) noexcept nogil:
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    while True:
        pause()


def share_memory() -> int:
    """The pid of a new process that runs in the caller's memory: it sleeps until both end."""
    cdef int pid = clone(sleep_beside, stack_beside + sizeof(stack_beside), CLONE_VM | SIGCHLD, NULL)
    if pid == -1:
        PyErr_SetFromErrno(OSError)
    return pid


# What the two sides of a race tell each other, each number on a cache line of its own.
cdef enum:
    READY = 0  # batches whose pages the reader has seen as zeros
    WRITTEN = 8  # pages written
    CHECKED = 16  # batches that the reader has read back
    RESET = 24  # batches released
    CALLED = 32  # batches that the cleaner is at
    WORDS = 40


cdef void wait_for(uint64_t *word, uint64_t value) noexcept nogil:
    while load_acquire(word, ACQUIRE) < value:
        relax()


cdef void doze_for(uint64_t *word, uint64_t value) noexcept nogil:
    """As wait_for(), for long: the others may have the host's processors."""
    while load_acquire(word, ACQUIRE) < value:
        usleep(100)


def shared_words() -> bytearray:
    """Memory for `write_behind_reader` and `read_behind_writer` to meet in."""
    return bytearray(WORDS * 8)


def write_behind_reader(
    uintptr_t address,
    size_t pages,
    size_t stride,
    uint64_t batches,
    uint64_t[::1] shared,
    unsigned int wait_us,
):
    """Write each of `pages` once the reader has seen zeros in all, then release them: a batch.

    The cleaner's call has that many microseconds before, and a bit, another in each batch.
    """
    cdef uint64_t batch
    cdef size_t i
    with nogil:
        for batch in range(batches):
            doze_for(&shared[READY], batch + 1)
            wait_for(&shared[CALLED], batch + 1)
            if wait_us:
                usleep(wait_us)
            # The call has its whole course to be met in.
            for i in range(batch * 37 % 4096):
                relax()
            for i in range(pages):
                (<volatile uint8_t *>(address + i * stride))[0] = batch % 255 + 1
                store_release(&shared[WRITTEN], batch * pages + i + 1, RELEASE)
            doze_for(&shared[CHECKED], batch + 1)
            madvise(<void *>address, pages * stride, MADV_DONTNEED)
            store_release(&shared[RESET], batch + 1, RELEASE)


def call_beside(
    int fd, unsigned long request, bytes args, size_t counter, uint64_t batches, uint64_t[::1] shared
) -> int:
    """One ioctl a batch, once its pages are mapped; the sum of the number at byte `counter`."""
    cdef bytearray buffer = bytearray(args)
    cdef uint8_t *own = buffer
    cdef const uint8_t *given = args
    cdef size_t length = len(args)
    cdef uint64_t total = 0
    cdef uint64_t batch
    cdef int result = 0
    with nogil:
        for batch in range(batches):
            doze_for(&shared[READY], batch + 1)
            memcpy(own, given, length)
            store_release(&shared[CALLED], batch + 1, RELEASE)
            result |= ioctl(fd, request, own)
            total += (<uint64_t *>(own + counter))[0]
    if result:
        PyErr_SetFromErrno(OSError)
    return total


def read_behind_writer(
    uintptr_t address, size_t pages, size_t stride, uint64_t batches, uint64_t[::1] shared
) -> tuple[int, int]:
    """Read each of `pages` before it is written and right after; how often either was wrong."""
    cdef uint64_t batch
    cdef size_t not_zero = 0
    cdef size_t stale = 0
    cdef size_t i
    with nogil:
        for batch in range(batches):
            doze_for(&shared[RESET], batch)
            for i in range(pages):
                not_zero += (<volatile uint8_t *>(address + i * stride))[0] != 0
            # Once more: a fault flushes the TLB where the kernel unmaps pages that are free.
            for i in range(pages):
                not_zero += (<volatile uint8_t *>(address + i * stride))[0] != 0
            store_release(&shared[READY], batch + 1, RELEASE)
            for i in range(pages):
                wait_for(&shared[WRITTEN], batch * pages + i + 1)
                stale += (<volatile uint8_t *>(address + i * stride))[0] != batch % 255 + 1
            store_release(&shared[CHECKED], batch + 1, RELEASE)
    return not_zero, stale
