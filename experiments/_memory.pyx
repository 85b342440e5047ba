# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The experiments' loops over memory and pagemap: a guest without KVM is too slow for them in Python."""

from array import array

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EINTR, errno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.types cimport off_t
from posix.unistd cimport pread

cdef extern from "<sys/mman.h>" nogil:
    int MADV_DONTNEED
    int _MADV_PAGEOUT "MADV_PAGEOUT"
    int _MAP_NORESERVE "MAP_NORESERVE"
    int madvise(void *address, size_t length, int advice)
    int mincore(void *address, size_t length, unsigned char *residency)

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...)

cdef extern from *:
    """
    #include <linux/fs.h>
    #include <linux/ioctl.h>
    #include <linux/types.h>
    /* Linux 6.7 brought PAGEMAP_SCAN (52526ca7fdb9); older headers lack it. */
    #ifndef PAGEMAP_SCAN
    struct page_region {
        __u64 start;
        __u64 end;
        __u64 categories;
    };
    struct pm_scan_arg {
        __u64 size;
        __u64 flags;
        __u64 start;
        __u64 end;
        __u64 walk_end;
        __u64 vec;
        __u64 vec_len;
        __u64 max_pages;
        __u64 category_inverted;
        __u64 category_mask;
        __u64 category_anyof_mask;
        __u64 return_mask;
    };
    #define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
    #define PAGE_IS_FILE (1 << 2)
    #define PAGE_IS_PRESENT (1 << 3)
    #define PAGE_IS_SWAPPED (1 << 4)
    #define PAGE_IS_PFNZERO (1 << 5)
    #define PAGE_IS_HUGE (1 << 6)
    #endif

    /* A load that no compiler leaves out. */
    static inline void load(const volatile unsigned char *byte)
    {
        (void)*byte;
    }

    static void spin_until(const unsigned char *stop)
    {
        while (!__atomic_load_n(stop, __ATOMIC_RELAXED))
            __builtin_ia32_pause();
    }
    """
    struct page_region:
        uint64_t start
        uint64_t end
        uint64_t categories

    struct pm_scan_arg:
        uint64_t size
        uint64_t start
        uint64_t end
        uint64_t walk_end
        uint64_t vec
        uint64_t vec_len
        uint64_t category_anyof_mask
        uint64_t return_mask

    unsigned long PAGEMAP_SCAN
    uint64_t PAGE_IS_FILE
    uint64_t PAGE_IS_PRESENT
    uint64_t PAGE_IS_SWAPPED
    uint64_t PAGE_IS_PFNZERO
    uint64_t PAGE_IS_HUGE

    void load(const unsigned char *byte) nogil
    void spin_until(const unsigned char *stop) nogil

MADV_PAGEOUT = _MADV_PAGEOUT
MAP_NORESERVE = _MAP_NORESERVE

cdef enum:
    PAGE = 4096
    UNIT = 2 << 20
    UNIT_PAGES = UNIT // PAGE
    REGIONS = 4096
    # 64 units at a time
    ENTRIES = 64 * UNIT_PAGES

# Bit 55 says soft-dirty, which a new mapping's pages are even where no entry exists.
cdef uint64_t PAGEMAP_SOFT_DIRTY = (<uint64_t>1) << 55
cdef uint64_t PAGEMAP_PRESENT = (<uint64_t>1) << 63
cdef uint64_t PAGEMAP_FRAME = PAGEMAP_SOFT_DIRTY - 1


cdef inline uint64_t splitmix64(uint64_t value) noexcept nogil:
    value += <uint64_t>0x9E3779B97F4A7C15
    value = (value ^ (value >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <uint64_t>0x94D049BB133111EB
    return value ^ (value >> 31)


cdef inline size_t touched(size_t unit, uint64_t seed) noexcept nogil:
    """Offset in the mapping of the one page touched in a unit."""
    return unit * UNIT + (splitmix64(seed ^ splitmix64(unit)) % UNIT_PAGES) * PAGE


cdef inline int64_t now_ns() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return <int64_t>time.tv_sec * 1000000000 + time.tv_nsec


cdef inline void touch_page(unsigned char *page, bint write) noexcept nogil:
    if write:
        page[0] = 1
    else:
        load(page)


cdef inline void touch_unit(
    unsigned char *base, size_t unit, uint64_t seed, bint every_page, bint write
) noexcept nogil:
    cdef size_t offset = unit * UNIT
    cdef size_t end = offset + UNIT
    if not every_page:
        touch_page(base + touched(unit, seed), write)
        return
    while offset < end:
        touch_page(base + offset, write)
        offset += PAGE


cdef inline int release_unit(
    unsigned char *base, size_t unit, uint64_t seed, bint every_page, size_t block, int advice
) noexcept nogil:
    cdef size_t offset = unit * UNIT
    cdef size_t end = offset + UNIT
    if not every_page:
        return madvise(base + touched(unit, seed) // block * block, block, advice)
    while offset < end:
        if madvise(base + offset, block, advice):
            return -1
        offset += block
    return 0


cdef unsigned char *checked(const unsigned char[::1] memory, size_t first, size_t last) except NULL:
    cdef unsigned char *base
    if not first <= last <= <size_t>memory.shape[0] // UNIT or memory.shape[0] == 0:
        raise ValueError(f"units {first} to {last} are not within {memory.shape[0]} bytes")
    base = <unsigned char *>&memory[0]
    if <uintptr_t>base % UNIT:
        raise ValueError("the memory does not start on a 2 MiB boundary")
    return base


cdef int check_block(size_t block) except -1:
    if block == 0 or block % PAGE or UNIT % block:
        raise ValueError(f"a block of {block} bytes does not divide 2 MiB into whole pages")
    return 0


def touched_offset(size_t unit, uint64_t seed):
    return touched(unit, seed)


def touch(
    unsigned char[::1] memory,
    size_t first,
    size_t last,
    *,
    uint64_t seed,
    bint every_page,
    bint write=True,
):
    cdef unsigned char *base = checked(memory, first, last)
    cdef size_t unit
    cdef int64_t begin
    with nogil:
        begin = now_ns()
        for unit in range(first, last):
            touch_unit(base, unit, seed, every_page, write)
        begin = now_ns() - begin
    return begin


def release(
    unsigned char[::1] memory,
    size_t first,
    size_t last,
    *,
    uint64_t seed,
    bint every_page,
    size_t block,
    int advice=MADV_DONTNEED,
):
    cdef unsigned char *base = checked(memory, first, last)
    cdef size_t unit
    cdef int64_t begin
    cdef int failed = 0
    check_block(block)
    with nogil:
        begin = now_ns()
        for unit in range(first, last):
            failed = release_unit(base, unit, seed, every_page, block, advice)
            if failed:
                break
        begin = now_ns() - begin
    if failed:
        PyErr_SetFromErrno(OSError)
    return begin


def touch_and_release(
    unsigned char[::1] memory,
    size_t first,
    size_t last,
    *,
    uint64_t seed,
    bint every_page,
    size_t block,
):
    cdef unsigned char *base = checked(memory, first, last)
    cdef size_t unit
    cdef int64_t begin, middle, end
    cdef int64_t touching = 0, releasing = 0
    cdef int failed = 0
    check_block(block)
    with nogil:
        end = now_ns()
        for unit in range(first, last):
            begin = end
            touch_unit(base, unit, seed, every_page, True)
            middle = now_ns()
            failed = release_unit(base, unit, seed, every_page, block, MADV_DONTNEED)
            if failed:
                break
            end = now_ns()
            touching += middle - begin
            releasing += end - middle
    if failed:
        PyErr_SetFromErrno(OSError)
    return touching, releasing


cdef inline bint is_kept(size_t block, uint64_t seed, uint32_t per_million) noexcept nogil:
    return splitmix64(~seed ^ splitmix64(block)) % 1000000 < per_million


cdef inline uint64_t stamp_of(size_t page, uint64_t seed) noexcept nogil:
    # Never 0, as released pages are.
    return splitmix64(seed + page) | 1


def release_but(
    unsigned char[::1] memory,
    size_t first,
    size_t last,
    *,
    uint64_t seed,
    size_t block,
    uint32_t per_million,
    int advice=MADV_DONTNEED,
):
    cdef unsigned char *base = checked(memory, first, last)
    cdef size_t unit, number, page, kept, survivors = 0
    cdef int64_t begin, spent = 0
    cdef int failed = 0
    check_block(block)
    emptied = array("Q")
    for unit in range(first, last):
        kept = 0
        with nogil:
            for number in range(unit * UNIT // block, (unit + 1) * UNIT // block):
                if is_kept(number, seed, per_million):
                    for page in range(number * block // PAGE, (number + 1) * block // PAGE):
                        (<uint64_t *>(base + page * PAGE))[0] = stamp_of(page, seed)
                        kept += 1
            begin = now_ns()
            for number in range(unit * UNIT // block, (unit + 1) * UNIT // block):
                if not is_kept(number, seed, per_million):
                    failed = madvise(base + number * block, block, advice)
                    if failed:
                        break
            spent += now_ns() - begin
        if failed:
            PyErr_SetFromErrno(OSError)
        survivors += kept
        if not kept:
            emptied.append(unit)
    return spent, survivors, emptied


def kept_intact(
    const unsigned char[::1] memory,
    size_t first,
    size_t last,
    *,
    uint64_t seed,
    size_t block,
    uint32_t per_million,
):
    cdef unsigned char *base = checked(memory, first, last)
    cdef size_t number, page
    cdef bint intact = True
    check_block(block)
    with nogil:
        for number in range(first * UNIT // block, last * UNIT // block):
            if is_kept(number, seed, per_million):
                for page in range(number * block // PAGE, (number + 1) * block // PAGE):
                    intact &= (<uint64_t *>(base + page * PAGE))[0] == stamp_of(page, seed)
    return intact


def resident(
    const unsigned char[::1] memory,
    size_t first,
    size_t last,
    *,
    uint64_t seed,
    bint every_page,
):
    cdef unsigned char *base = checked(memory, first, last)
    cdef unsigned char residency[UNIT_PAGES]
    cdef size_t unit, index, found = 0
    cdef size_t count = UNIT_PAGES if every_page else 1
    cdef int failed = 0
    with nogil:
        for unit in range(first, last):
            failed = mincore(
                base + (unit * UNIT if every_page else touched(unit, seed)),
                count * PAGE,
                residency,
            )
            if failed:
                break
            for index in range(count):
                found += residency[index] & 1
    if failed:
        PyErr_SetFromErrno(OSError)
    return found


def spin(const unsigned char[::1] stop):
    with nogil:
        spin_until(&stop[0])


def scan_units(int fd, uint64_t start, uint64_t end, *, bint zero_pages=True):
    cdef pm_scan_arg scan
    cdef page_region *regions
    cdef page_region *region
    cdef uint64_t unit, last, next_unit = start // UNIT
    cdef uint64_t anonymous = 0, file = 0
    cdef int found, index
    units = array("Q")
    regions = <page_region *>malloc(REGIONS * sizeof(page_region))
    if regions == NULL:
        raise MemoryError
    try:
        while start < end:
            memset(&scan, 0, sizeof(scan))
            scan.size = sizeof(scan)
            scan.start = start
            scan.end = end
            scan.vec = <uint64_t><uintptr_t>regions
            scan.vec_len = REGIONS
            scan.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED
            scan.return_mask = PAGE_IS_HUGE | PAGE_IS_FILE | PAGE_IS_PFNZERO
            with nogil:
                found = ioctl(fd, PAGEMAP_SCAN, &scan)
            if found < 0:
                if errno != EINTR:
                    PyErr_SetFromErrno(OSError)
                found = 0
                scan.walk_end = start
            for index in range(found):
                region = &regions[index]
                # The huge zero page has a deposited table, as any other huge page.
                if not zero_pages and region.categories & (
                    PAGE_IS_PFNZERO | PAGE_IS_HUGE
                ) == PAGE_IS_PFNZERO:
                    continue
                unit = region.start // UNIT
                last = (region.end - 1) // UNIT
                if unit < next_unit:
                    unit = next_unit
                while unit <= last:
                    units.append(unit)
                    if region.categories & PAGE_IS_HUGE:
                        if region.categories & PAGE_IS_FILE:
                            file += 1
                        else:
                            anonymous += 1
                    unit += 1
                if next_unit <= last:
                    next_unit = last + 1
            start = scan.walk_end
    finally:
        free(regions)
    return units, anonymous, file


def read_units(int fd, uint64_t start, uint64_t end, *, uint64_t zero_frame=0):
    cdef uint64_t *entries
    cdef uint64_t page = start // PAGE
    cdef uint64_t last = end // PAGE
    cdef uint64_t index, count, want, unit
    cdef ssize_t got
    units = array("Q")
    entries = <uint64_t *>malloc(ENTRIES * sizeof(uint64_t))
    if entries == NULL:
        raise MemoryError
    try:
        while page < last:
            # Whole units, so that no unit is met in two reads.
            want = min(last, (page // ENTRIES + 1) * ENTRIES) - page
            with nogil:
                got = pread(fd, entries, want * sizeof(uint64_t), <off_t>(page * sizeof(uint64_t)))
            if got < 0:
                PyErr_SetFromErrno(OSError)
            count = <uint64_t>got // sizeof(uint64_t)
            if count == 0:
                break
            index = 0
            while index < count:
                if entries[index] & ~PAGEMAP_SOFT_DIRTY and not (
                    zero_frame
                    and entries[index] & (PAGEMAP_PRESENT | PAGEMAP_FRAME)
                    == (PAGEMAP_PRESENT | zero_frame)
                ):
                    unit = (page + index) // UNIT_PAGES
                    units.append(unit)
                    index = (unit + 1) * UNIT_PAGES - page
                else:
                    index += 1
            page += count
    finally:
        free(entries)
    return units
