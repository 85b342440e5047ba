# SPDX-License-Identifier: MIT
"""A sparse mapping, touched and released in units of 2 MiB, each of which has one PTE table."""

import itertools
import mmap
import os
import random
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

from cleanup import _uapi
from cleanup.errors import CleanupError
from experiments import _memory

PAGE = 4096
UNIT = 2 << 20
GIB_UNITS = (1 << 30) // UNIT

Bounds = tuple[int, int]
"""The first address of a range and the one past its last; or likewise two units."""


class SparseMapping(_memory.Units):
    """A mapping of units of 2 MiB that starts on a GiB boundary."""

    @property
    def range(self) -> Bounds:
        """The addresses of the mapping: the first, and the one past the last."""
        return self.address, self.address + len(self.view)

    def zap(self, first: int, last: int) -> None:
        """Zap whole units by one MADV_DONTNEED, whatever they hold. Raises OSError."""
        _uapi.madvise(self.address + first * UNIT, (last - first) * UNIT, mmap.MADV_DONTNEED)

    def around(self, kept: Iterable[int] = ()) -> list[Bounds]:
        """Return the runs of units between the `kept` ones, which ascend; by default, all units."""
        edges = [-1, *kept, self.units]
        return [(a + 1, b) for a, b in itertools.pairwise(edges) if a + 1 < b]

    def page(self, unit: int) -> memoryview:
        """Return the page of a unit that `touch` touches if it touches only one."""
        offset = _memory.touched_offset(unit, self.seed)
        return self.view[offset : offset + PAGE]

    def fill(self, units: Iterable[int]) -> None:
        """Write contents made from the seed to the touched page of each unit."""
        for unit in units:
            self.page(unit)[:] = self._content(unit)

    def is_filled(self, units: Iterable[int]) -> bool:
        """Tell whether the touched pages of `units` hold what `fill` writes to them."""
        return all(self.page(unit) == self._content(unit) for unit in units)

    def _content(self, unit: int) -> bytes:
        return random.Random(f"{self.seed} {unit}").randbytes(PAGE)  # noqa: S311 -- reproducible

    def store(self) -> None:
        """Flush what was written to the file. Raises OSError."""
        cast(mmap.mmap, self.view.obj).flush()

    def released_reads_zero(self, empty: Sequence[Bounds], sample: int = 64) -> bool:
        """Tell whether pages in `empty` runs of units read as zeros, and then hold what is written.

        This makes page tables in `sample` units, chosen by the seed: measure before it.
        """
        chooser = random.Random(self.seed)  # noqa: S311 -- a reproducible sample
        for _ in range(sample):
            unit = chooser.randrange(*chooser.choice(empty))
            page = self.page(unit)
            if page != bytes(PAGE):
                return False
            self.fill([unit])
            if not self.is_filled([unit]):
                return False
            page[:] = bytes(PAGE)
        return True


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
    advice: int | None = None,
) -> Iterator[SparseMapping]:
    """Map memory without reserving any, with huge pages only if `huge`; unmap it at the end.

    By default it is private and anonymous, and MADV_DONTNEED releases it. With `directory` it is a
    shared mapping, without readahead, of a nameless sparse file there, which MADV_PAGEOUT
    releases. With `memfd` it is a shared mapping of a memfd; MADV_REMOVE releases it by punching a
    hole. `advice` replaces any of these. `Units` explains the other parameters.
    Raises CleanupError where the kernel refuses so much address space or so large a file.
    """
    gib = 1 << 30
    # With a GiB more, the view can start on a GiB boundary: its number of PMD tables never varies.
    length = size_bytes + gib
    with ExitStack() as stack:
        fd, flags, usual = -1, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.MADV_DONTNEED
        if directory is not None:
            fd = stack.enter_context(_sparse_file(directory, length)).fileno()
            flags, usual = mmap.MAP_SHARED, _memory.MADV_PAGEOUT
        if memfd:
            fd = os.memfd_create("pgtable-cleanup", os.MFD_CLOEXEC)
            stack.callback(os.close, fd)
            os.ftruncate(fd, length)
            flags, usual = mmap.MAP_SHARED, mmap.MADV_REMOVE
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
        offset = -_uapi.address_of(memory) % gib
        with memoryview(memory)[offset : offset + size_bytes] as view:
            yield SparseMapping(
                view,
                seed=seed,
                every_page=every_page,
                block=block,
                write=write,
                advice=usual if advice is None else advice,
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
