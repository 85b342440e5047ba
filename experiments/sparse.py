# SPDX-License-Identifier: MIT
"""A sparse private mapping, touched and released by units of 2 MiB: one PTE table each."""

import mmap
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cleanup import _uapi
from cleanup.errors import CleanupError
from cleanup.experiments import _memory

PAGE = 4096
UNIT = 2 << 20
GIB_UNITS = (1 << 30) // UNIT


@dataclass(frozen=True, slots=True)
class SparseMapping:
    """`view` starts on a GiB, `block` is the size of each release call in bytes.

    Units count from the start of the view, `last` excluded; times are in seconds.
    """

    view: memoryview
    address: int
    seed: int
    every_page: bool
    block: int

    @property
    def units(self) -> int:
        return len(self.view) // UNIT

    @property
    def range(self) -> tuple[int, int]:
        """First address and the one past the last."""
        return self.address, self.address + len(self.view)

    def touch(self, first: int, last: int) -> float:
        """Write to each unit: to one page chosen by the seed, or to all."""
        return 1e-9 * _memory.touch(
            self.view, first, last, seed=self.seed, every_page=self.every_page
        )

    def release(self, first: int, last: int) -> float:
        """MADV_DONTNEED over what `touch` touched; OSError."""
        return 1e-9 * _memory.release(
            self.view, first, last, seed=self.seed, every_page=self.every_page, block=self.block
        )

    def touch_and_release(self, first: int, last: int) -> tuple[float, float]:
        """Both, one unit after the other; the time of each."""
        touching, releasing = _memory.touch_and_release(
            self.view, first, last, seed=self.seed, every_page=self.every_page, block=self.block
        )
        return 1e-9 * touching, 1e-9 * releasing

    def zap(self, first: int, last: int) -> None:
        """One MADV_DONTNEED over whole units, whatever they hold; OSError."""
        _uapi.madvise(self.address + first * UNIT, (last - first) * UNIT, mmap.MADV_DONTNEED)

    def page(self, unit: int) -> memoryview:
        """The page that `touch` touches in a unit."""
        offset = _memory.touched_offset(unit, self.seed)
        return self.view[offset : offset + PAGE]

    def released_reads_zero(self, empty: Sequence[tuple[int, int]], sample: int) -> bool:
        """Whether pages in `empty` runs of units read as zeros and then hold what is written.

        Looks at `sample` units chosen by the seed; makes tables, so measure before.
        """
        chooser = random.Random(self.seed)  # noqa: S311 -- a reproducible sample
        for _ in range(sample):
            first, last = chooser.choice(empty)
            page = self.page(chooser.randrange(first, last))
            content = chooser.randbytes(PAGE)
            if page != bytes(PAGE):
                return False
            page[:] = content
            if page != content:
                return False
            page[:] = bytes(PAGE)
        return True


@contextmanager
def sparse_mapping(
    size_bytes: int, *, seed: int, every_page: bool, block: int
) -> Iterator[SparseMapping]:
    """Map memory of no reservation and without huge pages, unmapped at the end.

    CleanupError where the kernel refuses so much address space.
    """
    gib = 1 << 30
    try:
        memory = mmap.mmap(
            -1,
            # Whole GiB, so that the number of PMD tables does not depend on the address.
            size_bytes + gib,
            flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _memory.MAP_NORESERVE,
        )
    except OSError as error:
        raise CleanupError(
            f"mapping {size_bytes >> 30} GiB failed: {error.strerror}: allow it with "
            "vm.overcommit_memory=0 and without a limit on address space (ulimit -v)"
        ) from error
    with memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        base = _uapi.address_of(memory)
        offset = -base % gib
        with memoryview(memory)[offset : offset + size_bytes] as view:
            yield SparseMapping(view, base + offset, seed, every_page, block)
