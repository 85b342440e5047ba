# SPDX-License-Identifier: MIT
"""A sparse mapping, touched and released by units of 2 MiB: one PTE table each."""

import mmap
import os
import random
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from cleanup import _uapi
from cleanup.errors import CleanupError
from experiments import _memory

PAGE = 4096
UNIT = 2 << 20
GIB_UNITS = (1 << 30) // UNIT


@dataclass(frozen=True, slots=True)
class SparseMapping:
    """`view` starts on a GiB, `block` is the size of each release call in bytes.

    `write` says whether touching a page writes to it or only reads, `advice` which
    madvise() releases it.  Units count from the start of the view, `last` excluded; times
    are in seconds.
    """

    view: memoryview
    address: int
    seed: int
    every_page: bool
    block: int
    write: bool
    advice: int

    @property
    def units(self) -> int:
        return len(self.view) // UNIT

    @property
    def range(self) -> tuple[int, int]:
        """First address and the one past the last."""
        return self.address, self.address + len(self.view)

    def touch(self, first: int, last: int) -> float:
        """Touch each unit: one page chosen by the seed, or all."""
        return 1e-9 * _memory.touch(
            self.view, first, last, seed=self.seed, every_page=self.every_page, write=self.write
        )

    def release(self, first: int, last: int) -> float:
        """madvise() over what `touch` touched; OSError."""
        return 1e-9 * _memory.release(
            self.view,
            first,
            last,
            seed=self.seed,
            every_page=self.every_page,
            block=self.block,
            advice=self.advice,
        )

    def resident(self, first: int, last: int, *, every_page: bool) -> int:
        """Count the pages in memory, of all or of those touched one a unit.  Raises OSError."""
        return _memory.resident(self.view, first, last, seed=self.seed, every_page=every_page)

    def touch_and_release(self, first: int, last: int) -> tuple[float, float]:
        """Write to a unit and MADV_DONTNEED it, one after the other; the time of each."""
        touching, releasing = _memory.touch_and_release(
            self.view, first, last, seed=self.seed, every_page=self.every_page, block=self.block
        )
        return 1e-9 * touching, 1e-9 * releasing

    def zap(self, first: int, last: int) -> None:
        """One MADV_DONTNEED over whole units, whatever they hold; OSError."""
        _uapi.madvise(self.address + first * UNIT, (last - first) * UNIT, mmap.MADV_DONTNEED)

    def release_but(
        self, first: int, last: int, per_million: int
    ) -> tuple[float, int, Sequence[int]]:
        """madvise() by blocks, all but `per_million` of a million, chosen by the seed.

        Returns the time, the number of pages kept, and the units that keep none; OSError.
        """
        releasing, survivors, emptied = _memory.release_but(
            self.view,
            first,
            last,
            seed=self.seed,
            block=self.block,
            per_million=per_million,
            advice=self.advice,
        )
        return 1e-9 * releasing, survivors, emptied

    def kept_intact(self, per_million: int) -> bool:
        """Tell whether the pages that `release_but` kept are as they were."""
        return _memory.kept_intact(
            self.view, 0, self.units, seed=self.seed, block=self.block, per_million=per_million
        )

    def page(self, unit: int) -> memoryview:
        """The page that `touch` touches in a unit, if not all."""
        offset = _memory.touched_offset(unit, self.seed)
        return self.view[offset : offset + PAGE]

    def store(self) -> None:
        """Have what was written stored in the file; OSError."""
        cast(mmap.mmap, self.view.obj).flush()

    def released_reads_zero(self, empty: Sequence[tuple[int, int]], sample: int) -> bool:
        """Tell whether pages in `empty` runs of units read as zeros, and then hold what is written.

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


def runs_of(units: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Units that ascend, as runs: first and past the last."""
    first = last = -1
    for unit in units:
        if unit != last:
            if first < last:
                yield first, last
            first = unit
        last = unit + 1
    if first < last:
        yield first, last


def between(kept: Sequence[int], units: int) -> Iterator[tuple[int, int]]:
    """The runs of units, first and past the last, around those kept, which ascend."""
    first = 0
    for unit in [*kept, units]:
        if first < unit:
            yield first, unit
        first = unit + 1


@contextmanager
def sparse_mapping(
    size_bytes: int,
    *,
    seed: int,
    every_page: bool = False,
    block: int = PAGE,
    write: bool = True,
    directory: Path | None = None,
    memfd: bool = False,
    huge: bool = False,
) -> Iterator[SparseMapping]:
    """Map memory of no reservation and without huge pages, or with them, unmapped at the end.

    It is private and anonymous, and released by MADV_DONTNEED; with `directory` it is a
    sparse file there that has no name, shared, without readahead, and released by
    MADV_PAGEOUT; with `memfd` it is one of those, shared, and released by MADV_REMOVE,
    which punches a hole.  CleanupError where the kernel refuses so much address space or so large
    a file.
    """
    gib = 1 << 30
    # Whole GiB, so that the number of PMD tables does not depend on the address.
    length = size_bytes + gib
    with ExitStack() as stack:
        fd = -1
        advice = mmap.MADV_DONTNEED
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        if directory is not None:
            fd = stack.enter_context(_sparse_file(directory, length)).fileno()
            flags = mmap.MAP_SHARED
            advice = _memory.MADV_PAGEOUT
        if memfd:
            fd = os.memfd_create("pgtable-cleanup", os.MFD_CLOEXEC)
            stack.callback(os.close, fd)
            os.ftruncate(fd, length)
            flags = mmap.MAP_SHARED
            advice = mmap.MADV_REMOVE
        try:
            memory = mmap.mmap(fd, length, flags=flags | _memory.MAP_NORESERVE)
        except OSError as error:
            raise CleanupError(
                f"mapping {size_bytes >> 30} GiB failed: {error.strerror}: allow it with "
                "vm.overcommit_memory=0 and without a limit on address space (ulimit -v)"
            ) from error
        stack.enter_context(memory)
        memory.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
        if directory is not None:
            memory.madvise(mmap.MADV_RANDOM)
        base = _uapi.address_of(memory)
        offset = -base % gib
        with memoryview(memory)[offset : offset + size_bytes] as view:
            yield SparseMapping(
                view,
                base + offset,
                seed,
                every_page,
                block,
                write,
                advice,
            )


def _sparse_file(directory: Path, size_bytes: int) -> IO[bytes]:
    try:
        file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 -- the caller closes it
        file.truncate(size_bytes)
    except OSError as error:
        raise CleanupError(
            f"making a sparse file of {size_bytes >> 30} GiB in {directory} failed: "
            f"{error.strerror}: let TMPDIR name a directory on ext4 or xfs"
        ) from error
    return file
