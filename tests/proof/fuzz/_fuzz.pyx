# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False
"""The fuzzers' inner loops: many ioctls of one batch, and checksums of many pages."""

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EFAULT, ENOMEM, errno
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset
from posix.types cimport off_t
from posix.unistd cimport pread

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, void *argument)

cdef extern from "<sys/mman.h>" nogil:
    int MADV_DONTNEED
    int madvise(void *address, size_t length, int advice)

cdef extern from "pgtable_cleanup.h" nogil:
    cdef enum:
        SCAN_ONLY "PGTABLE_CLEANUP_SCAN_ONLY"

    struct pgtable_cleanup_args:
        uint32_t flags

cdef extern from * nogil:
    uint64_t load "__atomic_load_n"(uint64_t *from_, int order)
    void store "__atomic_store_n"(uint64_t *to, uint64_t value, int order)
    int ACQUIRE "__ATOMIC_ACQUIRE"
    int RELEASE "__ATOMIC_RELEASE"
    int IN_ORDER "__ATOMIC_SEQ_CST"
    void relax "__builtin_ia32_pause"()

cdef enum:
    PAGE = 4096
    WORDS = 512  # of 64 bits, in a page
    CANARY = 0xA5
    FLIPPED_STRUCT = 2 * PAGE
    CANARIES = 64  # before the struct; after it, the call's slack
    IN_STRUCT = 1  # what Call.flips says of flip_at: an offset; else an address
    STAGED = 0  # Call.place
    READ_ONLY = 1
    # Words of what caller and flipper share, each on a cache line of its own.
    WANTED = 0
    FLIPPED = 8
    VALUES = 16
    STOP = 24

# numpy's CALL in model.py
cdef packed struct Call:
    uint64_t request
    uint64_t pointer
    uint64_t flip_at
    uint32_t length
    uint32_t slack
    uint32_t tail_at
    int32_t fd
    uint8_t tail_value
    uint8_t place
    uint8_t flips
    uint8_t flip_to


cdef bint all_are(const uint8_t *bytes_, size_t length, uint8_t value) noexcept nogil:
    cdef size_t i
    for i in range(length):
        if bytes_[i] != value:
            return False
    return True


cdef void stage(const Call *call, const uint8_t *image, size_t image_length, uint8_t *at) noexcept nogil:
    """The struct, the rest of what the caller says is its, and canaries around both."""
    memset(at - CANARIES, CANARY, CANARIES)
    memcpy(at, image, min(call.length, image_length))
    if call.length > image_length:
        memset(at + image_length, 0, call.length - image_length)
        if image_length <= call.tail_at < call.length:
            at[call.tail_at] = call.tail_value
    memset(at + call.length, CANARY, call.slack)


cdef bint spoilt(const Call *call, size_t image_length, const uint8_t *at) noexcept nogil:
    """Whether anything outside the struct that the module knows was written."""
    cdef size_t i
    for i in range(image_length, call.length):
        if at[i] != (call.tail_value if i == call.tail_at else 0):
            return True
    return not (
        all_are(at - CANARIES, CANARIES, CANARY) and all_are(at + call.length, call.slack, CANARY)
    )


cpdef void rearm(const uint64_t[::1] empties, const uint64_t[::1] zeros) noexcept nogil:
    """Empty tables and zero pages where a call may have freed them."""
    cdef size_t i
    for i in range(<size_t>empties.shape[0]):
        (<volatile uint8_t *>empties[i])[0] = 1
        madvise(<void *>empties[i], PAGE, MADV_DONTNEED)
    for i in range(<size_t>zeros.shape[0]):
        (<volatile uint8_t *>zeros[i])[0]


cdef int call_beside_flips(
    const Call *call, void *pointer, uint8_t *where, uint64_t *shared
) noexcept nogil:
    """The ioctl while `flip_beside` goes on changing one byte; it may change it some time longer."""
    cdef int number
    shared[VALUES] = where[0] | <uint64_t>call.flip_to << 8
    store(&shared[WANTED], <uint64_t>where, RELEASE)
    number = errno if ioctl(call.fd, call.request, pointer) else 0
    store(&shared[WANTED], 0, IN_ORDER)
    return number


cdef void wait_until_still(uint64_t *shared) noexcept nogil:
    while load(&shared[FLIPPED], ACQUIRE):
        relax()


def flip_beside(uint64_t[::1] shared):
    """Change the byte that the caller names to and fro, until `stop_flipping`."""
    cdef uint8_t *where
    cdef size_t i
    with nogil:
        while not load(&shared[STOP], ACQUIRE):
            # In order with the next load: else the caller may take us for still.
            store(&shared[FLIPPED], 1, IN_ORDER)
            where = <uint8_t *>load(&shared[WANTED], ACQUIRE)
            if where:
                for i in range(64):
                    (<volatile uint8_t *>where)[0] = shared[VALUES] >> 8
                    (<volatile uint8_t *>where)[0] = shared[VALUES]
            else:
                store(&shared[FLIPPED], 0, RELEASE)
                relax()
        store(&shared[FLIPPED], 0, RELEASE)


def stop_flipping(uint64_t[::1] shared):
    """End `flip_beside`."""
    store(&shared[STOP], 1, RELEASE)


def make_calls(
    const Call[::1] calls,
    const uint8_t[:, ::1] images,
    uint8_t[:, ::1] after,
    int32_t[::1] errnos,
    uintptr_t stage_end,
    uintptr_t read_only,
    const uint64_t[::1] empties,
    const uint64_t[::1] zeros,
    uint64_t[::1] shared,
) -> int:
    """Make each call with its image; `after` and `errnos` are what it answers.

    Each struct ends its slack before `stage_end`, where nothing is mapped, or with `flips` as many
    times two pages before that as its index; `read_only` is that many bytes on.  Returns the index of the first call that wrote beside its struct, -1 if none.
    """
    cdef size_t count = calls.shape[0]
    cdef size_t image_length = images.shape[1]
    cdef Call call
    cdef uint8_t *at
    cdef uint8_t *where
    cdef void *pointer
    cdef int first_spoilt = -1
    cdef int number
    cdef size_t i
    with nogil:
        for i in range(count):
            call = calls[i]
            at = <uint8_t *>(stage_end - call.slack - call.length)
            if call.flips:
                # A place of its own: the byte may still be changed when the call is done.
                at -= i * FLIPPED_STRUCT
            stage(&call, &images[i, 0], image_length, at)
            if call.place == STAGED:
                pointer = at
            elif call.place == READ_ONLY:
                pointer = at + read_only
            else:
                pointer = <void *>call.pointer
            if call.flips:
                where = at + call.flip_at if call.flips == IN_STRUCT else <uint8_t *>call.flip_at
                number = call_beside_flips(&call, pointer, where, &shared[0])
            else:
                number = errno if ioctl(call.fd, call.request, pointer) else 0
            errnos[i] = number
            memcpy(&after[i, 0], &images[i, 0], image_length)
            memcpy(&after[i, 0], at, min(call.length, image_length))
            if first_spoilt < 0 and spoilt(&call, image_length, at):
                first_spoilt = i
            if number not in (0, ENOMEM, EAGAIN, EFAULT):
                continue
            if call.flips or not (<const pgtable_cleanup_args *>&images[i, 0]).flags & SCAN_ONLY:
                rearm(empties, zeros)
        wait_until_still(&shared[0])
    return first_spoilt


def page_sums(int memory, const uint64_t[::1] pages) -> bytes:
    """A checksum of each page, read by /proc/PID/mem, which no protection keeps out. OSError."""
    cdef size_t count = pages.shape[0]
    cdef uint64_t words[WORDS]
    cdef uint64_t total
    cdef size_t i, j
    cdef bint failed = False
    sums = bytearray(count * 8)
    cdef uint64_t[::1] view = memoryview(sums).cast("Q") if count else None
    with nogil:
        for i in range(count):
            if pread(memory, words, PAGE, <off_t>pages[i]) != PAGE:
                failed = True
                break
            total = 0
            for j in range(WORDS):
                total = total * 31 + words[j]
            view[i] = total
    if failed:
        PyErr_SetFromErrno(OSError)
    return bytes(sums)
