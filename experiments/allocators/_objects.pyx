# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Objects from malloc() that are filled and checked, to find an allocator that loses a byte."""

from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memset

cdef struct Object:
    uint8_t *at
    size_t size
    uint8_t value


cdef uint64_t draw(uint64_t *state) noexcept nogil:
    """Return the next number of the generator xorshift64."""
    state[0] ^= state[0] << 13
    state[0] ^= state[0] >> 7
    state[0] ^= state[0] << 17
    return state[0]


cdef class Objects:
    """Up to `room` objects of 16 to `most` bytes, for one thread; it works without the GIL.

    All bytes of each object are written and checked.  Without `whole` only the first one is, so
    that the time is mostly the allocator's.
    """

    cdef Object *_objects
    cdef size_t _room
    cdef uint64_t _state
    cdef size_t _most
    cdef bint _whole
    cdef readonly size_t lost

    def __cinit__(self, size_t room, size_t most, uint64_t seed, bint whole=True):
        self._objects = <Object *>calloc(room, sizeof(Object))
        if self._objects == NULL:
            raise MemoryError
        self._room = room
        self._most = most
        self._whole = whole
        self._state = seed * 2654435761 + 1
        self.lost = 0

    def __dealloc__(self):
        cdef size_t i
        if self._objects != NULL:
            for i in range(self._room):
                free(self._objects[i].at)
            free(self._objects)

    cdef void _put(self, size_t i) noexcept nogil:
        cdef Object *one = &self._objects[i]
        one.size = 16 + draw(&self._state) % (self._most - 15)
        one.value = draw(&self._state) & 0xFF
        one.at = <uint8_t *>malloc(one.size)
        if one.at != NULL:
            memset(one.at, one.value, one.size if self._whole else 1)

    cdef bint _holds(self, Object *one) noexcept nogil:
        """Say whether each byte that was written to an object is still there."""
        if one.at[0] != one.value:
            return False
        return not self._whole or one.size == 1 or memcmp(one.at, one.at + 1, one.size - 1) == 0

    cdef void _take(self, size_t i) noexcept nogil:
        cdef Object *one = &self._objects[i]
        if one.at == NULL:
            return
        self.lost += not self._holds(one)
        free(one.at)
        one.at = NULL

    def fill(self) -> None:
        """Allocate all objects that are not there."""
        cdef size_t i
        with nogil:
            for i in range(self._room):
                if self._objects[i].at == NULL:
                    self._put(i)

    def release(self, size_t keep_every) -> None:
        """Check and free all objects, except one in every `keep_every`."""
        cdef size_t i
        with nogil:
            for i in range(self._room):
                if i % keep_every != 0:
                    self._take(i)

    def churn(self, size_t steps) -> None:
        """Pick an object at random for each step: allocate it, or check and free it."""
        cdef size_t step, i
        with nogil:
            for step in range(steps):
                i = draw(&self._state) % self._room
                if self._objects[i].at == NULL:
                    self._put(i)
                else:
                    self._take(i)

    def check(self) -> int:
        """Check all objects, and return how many there are."""
        cdef size_t i
        cdef size_t found = 0
        with nogil:
            for i in range(self._room):
                if self._objects[i].at != NULL:
                    found += 1
                    self.lost += not self._holds(&self._objects[i])
        return found
