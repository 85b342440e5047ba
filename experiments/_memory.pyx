# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The experiments' loops over memory and pagemap: in guests without KVM, Python is too slow."""

import os

cimport cython
from cpython.exc cimport PyErr_SetFromErrno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

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
    /* Load a byte; `volatile` keeps the compiler from leaving it out. */
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
    void load(const unsigned char *byte) nogil
    void spin_until(const unsigned char *stop) nogil

MADV_PAGEOUT = _MADV_PAGEOUT
MAP_NORESERVE = _MAP_NORESERVE

cdef enum:
    PAGE = 4096
    UNIT = 2 << 20
    UNIT_PAGES = UNIT // PAGE
    # A pagemap is read 64 units at a time.
    ENTRIES = 64 * UNIT_PAGES
    REGIONS = 4096
    # PAGEMAP_SCAN came with Linux 6.7 (52526ca7fdb9); installed <linux/fs.h> are often older.
    PAGE_IS_FILE = 1 << 2
    PAGE_IS_PRESENT = 1 << 3
    PAGE_IS_SWAPPED = 1 << 4
    PAGE_IS_PFNZERO = 1 << 5
    PAGE_IS_HUGE = 1 << 6

cdef unsigned long PAGEMAP_SCAN = 0xC0606610

# The kernel's struct pm_scan_arg and struct page_region.
cdef struct Scan:
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask

cdef struct Region:
    uint64_t start, end, categories

# Bit 55 means soft-dirty; pages of a new mapping have it even where there is no entry.
cdef uint64_t PAGEMAP_SOFT_DIRTY = (<uint64_t>1) << 55
cdef uint64_t PAGEMAP_PRESENT = (<uint64_t>1) << 63
cdef uint64_t PAGEMAP_FRAME = PAGEMAP_SOFT_DIRTY - 1


cdef inline uint64_t splitmix64(uint64_t value) noexcept nogil:
    value += <uint64_t>0x9E3779B97F4A7C15
    value = (value ^ (value >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <uint64_t>0x94D049BB133111EB
    return value ^ (value >> 31)


cdef inline size_t touched(size_t unit, uint64_t seed) noexcept nogil:
    """Return the offset in the mapping of the one page that is touched in a unit."""
    return unit * UNIT + (splitmix64(seed ^ splitmix64(unit)) % UNIT_PAGES) * PAGE


cdef inline bint is_kept(size_t block, uint64_t seed, uint32_t per_million) noexcept nogil:
    return splitmix64(~seed ^ splitmix64(block)) % 1000000 < per_million


cdef inline uint64_t stamp_of(size_t page, uint64_t seed) noexcept nogil:
    # A stamp is never 0, so that no released page looks stamped.
    return splitmix64(seed + page) | 1


cdef inline int64_t now_ns() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return <int64_t>time.tv_sec * 1000000000 + time.tv_nsec


def touched_offset(size_t unit, uint64_t seed):
    return touched(unit, seed)


cdef class Units:
    cdef readonly object view
    cdef readonly size_t address, units
    cdef readonly uint64_t seed
    cdef unsigned char *base
    cdef bint every_page, write
    cdef size_t block
    cdef int advice

    def __init__(
        self,
        view,
        *,
        uint64_t seed,
        bint every_page=False,
        size_t block=PAGE,
        bint write=True,
        int advice=MADV_DONTNEED,
    ):
        cdef unsigned char[::1] memory = view
        self.base = &memory[0]
        self.address = <uintptr_t>self.base
        if self.address % UNIT:
            raise ValueError("the memory does not start on a 2 MiB boundary")
        if block == 0 or block % PAGE or UNIT % block:
            raise ValueError(f"a block of {block} bytes does not divide 2 MiB into whole pages")
        self.view, self.units, self.seed = view, memory.shape[0] // UNIT, seed
        self.every_page, self.block = every_page, block
        self.write, self.advice = write, advice

    # Each method holds this view while it runs, so that the memory stays mapped.
    cdef unsigned char[::1] held(self, size_t first, size_t last):
        if not first <= last <= self.units:
            raise ValueError(f"units {first} to {last} are not within {self.units}")
        return self.view

    @cython.final
    cdef inline void touch_page(self, size_t offset) noexcept nogil:
        if self.write:
            self.base[offset] = 1
        else:
            load(self.base + offset)

    @cython.final
    cdef inline int release_block(self, size_t number) except -1 nogil:
        if madvise(self.base + number * self.block, self.block, self.advice):
            with gil:
                PyErr_SetFromErrno(OSError)
        return 0

    @cython.final
    cdef int64_t touch_ns(self, size_t first, size_t last) noexcept nogil:
        cdef int64_t begin = now_ns()
        cdef size_t unit, page
        for unit in range(first, last):
            if not self.every_page:
                self.touch_page(touched(unit, self.seed))
            else:
                for page in range(UNIT_PAGES):
                    self.touch_page(unit * UNIT + page * PAGE)
        return now_ns() - begin

    @cython.final
    cdef int64_t release_ns(self, size_t first, size_t last) except -1 nogil:
        cdef int64_t begin = now_ns()
        cdef size_t unit, number
        for unit in range(first, last):
            if not self.every_page:
                self.release_block(touched(unit, self.seed) // self.block)
            else:
                for number in range(unit * UNIT // self.block, (unit + 1) * UNIT // self.block):
                    self.release_block(number)
        return now_ns() - begin

    def touch(self, size_t first, size_t last):
        cdef unsigned char[::1] memory = self.held(first, last)
        cdef int64_t touching
        with nogil:
            touching = self.touch_ns(first, last)
        return 1e-9 * touching

    def release(self, size_t first, size_t last):
        cdef unsigned char[::1] memory = self.held(first, last)
        cdef int64_t releasing
        with nogil:
            releasing = self.release_ns(first, last)
        return 1e-9 * releasing

    def touch_and_release(self, size_t first, size_t last):
        cdef unsigned char[::1] memory = self.held(first, last)
        cdef int64_t touching = 0, releasing = 0
        cdef size_t unit
        with nogil:
            for unit in range(first, last):
                touching += self.touch_ns(unit, unit + 1)
                releasing += self.release_ns(unit, unit + 1)
        return 1e-9 * touching, 1e-9 * releasing

    def release_but(self, size_t first, size_t last, uint32_t per_million):
        cdef unsigned char[::1] memory = self.held(first, last)
        cdef size_t blocks = UNIT // self.block
        cdef size_t pages = self.block // PAGE
        cdef size_t unit, number, page, kept, survivors = 0
        cdef int64_t begin, spent = 0
        keeping = []
        for unit in range(first, last):
            kept = 0
            with nogil:
                for number in range(unit * blocks, (unit + 1) * blocks):
                    if is_kept(number, self.seed, per_million):
                        for page in range(number * pages, (number + 1) * pages):
                            (<uint64_t *>(self.base + page * PAGE))[0] = stamp_of(page, self.seed)
                        kept += pages
                begin = now_ns()
                for number in range(unit * blocks, (unit + 1) * blocks):
                    if not is_kept(number, self.seed, per_million):
                        self.release_block(number)
                spent += now_ns() - begin
            survivors += kept
            if kept:
                keeping.append(unit)
        return 1e-9 * spent, survivors, keeping

    def kept_intact(self, uint32_t per_million):
        cdef unsigned char[::1] memory = self.held(0, self.units)
        cdef size_t pages = self.block // PAGE
        cdef size_t number, page
        cdef bint intact = True
        with nogil:
            for number in range(self.units * UNIT // self.block):
                if is_kept(number, self.seed, per_million):
                    for page in range(number * pages, (number + 1) * pages):
                        intact &= (<uint64_t *>(self.base + page * PAGE))[0] == stamp_of(
                            page, self.seed
                        )
        return intact

    def resident(self, size_t first, size_t last, *, bint every_page):
        cdef unsigned char[::1] memory = self.held(first, last)
        cdef unsigned char residency[UNIT_PAGES]
        cdef size_t count = UNIT_PAGES if every_page else 1
        cdef size_t unit, offset, index, found = 0
        for unit in range(first, last):
            offset = unit * UNIT if every_page else touched(unit, self.seed)
            if mincore(self.base + offset, count * PAGE, residency):
                PyErr_SetFromErrno(OSError)
            for index in range(count):
                found += residency[index] & 1
        return found


def spin(const unsigned char[::1] stop):
    with nogil:
        spin_until(&stop[0])


def scan_units(int fd, uint64_t start, uint64_t end, *, bint zero_pages=True):
    cdef Region regions[REGIONS]
    cdef Region region
    cdef Scan scan
    cdef uint64_t unit, next_unit = 0
    cdef size_t anonymous = 0, file = 0
    cdef int index, found
    units = []
    memset(&scan, 0, sizeof(scan))
    scan.size = sizeof(scan)
    scan.start, scan.end = start, end
    scan.vec, scan.vec_len = <uintptr_t>regions, REGIONS
    scan.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED
    scan.return_mask = PAGE_IS_HUGE | PAGE_IS_FILE | PAGE_IS_PFNZERO
    while scan.start < end:
        with nogil:
            found = ioctl(fd, PAGEMAP_SCAN, &scan)
        if found < 0:
            PyErr_SetFromErrno(OSError)
        for index in range(found):
            region = regions[index]
            # The huge zero page does count: it has a deposited table, like any other huge page.
            if not zero_pages and region.categories & (
                PAGE_IS_PFNZERO | PAGE_IS_HUGE
            ) == PAGE_IS_PFNZERO:
                continue
            for unit in range(max(next_unit, region.start // UNIT), (region.end - 1) // UNIT + 1):
                units.append(unit)
                next_unit = unit + 1
                if region.categories & PAGE_IS_HUGE:
                    if region.categories & PAGE_IS_FILE:
                        file += 1
                    else:
                        anonymous += 1
        scan.start = scan.walk_end
    return units, anonymous, file


def read_units(int fd, uint64_t start, uint64_t end, *, uint64_t zero_frame=0):
    cdef uint64_t page = start // PAGE
    cdef uint64_t last = end // PAGE
    cdef uint64_t unit, next_unit = 0
    cdef const uint64_t[::1] entries
    cdef Py_ssize_t index
    units = []
    while page < last:
        entries = memoryview(os.pread(fd, min(last - page, ENTRIES) * 8, page * 8)).cast("Q")
        if not entries.shape[0]:
            break
        for index in range(entries.shape[0]):
            if entries[index] & ~PAGEMAP_SOFT_DIRTY and not (
                zero_frame
                and entries[index] & (PAGEMAP_PRESENT | PAGEMAP_FRAME)
                == (PAGEMAP_PRESENT | zero_frame)
            ):
                unit = (page + index) // UNIT_PAGES
                if unit >= next_unit:
                    units.append(unit)
                    next_unit = unit + 1
        page += entries.shape[0]
    return units
