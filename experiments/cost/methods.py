# SPDX-License-Identifier: MIT
"""The methods of freeing page tables that are compared, each on the same layout and checked."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Generic, TypeVar

import cleanup
from cleanup import _mapping, _uapi
from experiments.cost import _calls
from experiments.part import ExperimentError
from experiments.sparse import PAGE, UNIT, SparseMapping, sparse_mapping

TABLES = 4096
QUICK_TABLES = 256
LIVE_TABLES = 16
# Ends a hold of the mmap lock, and with it a batch, after its first table.
ONE_TABLE_HOLD_NS = 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Layout:
    """`tables` empty PTE tables and LIVE_TABLES that hold a page each.

    `empty` are the runs of 2 MiB units that the empty ones map, first and past the last; all
    of them lie in the `length` bytes from `address` on, the live ones in between or behind.
    """

    mapping: SparseMapping
    empty: Sequence[tuple[int, int]]
    live: Sequence[int]
    contents: Sequence[bytes]
    length: int
    tables: int

    @property
    def address(self) -> int:
        return self.mapping.address

    def intact(self) -> bool:
        """Whether the live pages read as they were written."""
        return all(
            self.mapping.page(unit) == content
            for unit, content in zip(self.live, self.contents, strict=True)
        )

    def empty_reads_zero(self) -> bool:
        """Whether what was given back reads as zeros and can be written; makes tables anew."""
        return self.mapping.released_reads_zero(self.empty, sample=8)


@contextmanager
def layout(seed: int, tables: int, *, live_inside: bool) -> Iterator[Layout]:
    """Map it anew: a page touched in each 2 MiB, and each given back but the live ones."""
    units = tables + LIVE_TABLES
    step = units // LIVE_TABLES
    live = range(step // 2, units, step) if live_inside else range(tables, units)
    edges = pairwise([-1, *live, units])
    empty = [(low + 1, high) for low, high in edges if low + 1 < high]
    chooser = random.Random(seed)  # noqa: S311 -- reproducible contents
    contents = [chooser.randbytes(PAGE) for _ in live]
    with sparse_mapping(units * UNIT, seed=seed) as mapping:
        mapping.touch(0, units)
        for first, last in empty:
            mapping.release(first, last)
        for unit, content in zip(live, contents, strict=True):
            mapping.page(unit)[:] = content
        length = (units if live_inside else tables) * UNIT
        yield Layout(mapping, empty, live, contents, length, tables)


class Act:
    """What a method does to a layout.

    `max_hold_ns` bounds the module's lock holds, 0 by its default; `counts` are the module's
    own, where it was asked.
    """

    def __init__(self, device: int, layout: Layout, max_hold_ns: int) -> None:
        self.device, self.layout, self.max_hold_ns = device, layout, max_hold_ns
        self.counts: _uapi.Counts | None = None

    def module(self, *, flags: int = 0, max_hold_ns: int | None = None) -> None:
        """One ioctl over the range, for PTE tables."""
        self.counts = _uapi.call(
            self.device,
            flags=flags,
            levels=_uapi.LEVELS["pte"],
            ranges=((self.layout.address, self.layout.length),),
            max_hold_ns=self.max_hold_ns if max_hold_ns is None else max_hold_ns,
        )

    def zap(self) -> None:
        """One MADV_DONTNEED over the range."""
        self.layout.mapping.zap(0, self.layout.length // UNIT)

    def unmap(self) -> None:
        """munmap() and mmap() of the range."""
        _calls.unmap_and_map(self.layout.address, self.layout.length)

    def remap(self) -> None:
        """One mmap(MAP_FIXED) over the range."""
        _mapping.replace(self.layout.address, self.layout.length)

    def remap_each(self) -> None:
        """An mmap(MAP_FIXED) over each 2 MiB of the range."""
        _calls.replace_by_blocks(self.layout.address, self.layout.length, UNIT)


@dataclass(frozen=True, slots=True)
class CostMethod:
    """One method of freeing the tables of a layout.

    `frees` says whether it frees them all, and `frees_by_kernel` whether it does where the kernel
    has PT_RECLAIM. One that `unmaps` frees the upper tables of the range, too.
    """

    label: str
    act: Callable[[Act], None]
    live_inside: bool = False
    frees: bool = True
    frees_by_kernel: bool = False
    unmaps: bool = False

    def idle(self, vmpte_fall_bytes: int) -> bool:
        """Whether it means to free tables, and this kernel kept them."""
        return (self.frees or self.frees_by_kernel) and not vmpte_fall_bytes


METHODS = {
    "module": CostMethod("module", Act.module),
    "module_live_inside": CostMethod("module, live tables between", Act.module, live_inside=True),
    "module_scan": CostMethod(
        "module, scan only", partial(Act.module, flags=_uapi.SCAN_ONLY), frees=False
    ),
    "module_flush_each": CostMethod(
        "module, a flush for each table", partial(Act.module, max_hold_ns=ONE_TABLE_HOLD_NS)
    ),
    "zap": CostMethod("zap: one MADV_DONTNEED", Act.zap, frees=False, frees_by_kernel=True),
    "munmap": CostMethod("remap: munmap and mmap", Act.unmap, unmaps=True),
    "remap": CostMethod("remap: one MAP_FIXED", Act.remap, unmaps=True),
    "remap_each": CostMethod("remap: MAP_FIXED over each 2 MiB", Act.remap_each, unmaps=True),
}


@dataclass(frozen=True, slots=True)
class Round(Generic[T]):
    """What `measure` made of one act, and what came of it."""

    measured: T
    vmpte_fall_bytes: int
    counts: _uapi.Counts | None


def run_round(
    name: str,
    *,
    device: int,
    seed: int,
    tables: int,
    kernel_frees: bool,
    measure: Callable[[Callable[[], None]], T],
    max_hold_ns: int = 0,
) -> Round[T]:
    """One round on a layout of its own; `measure` runs what it is given once.

    `max_hold_ns` is for the module's batches.  ExperimentError where the method did not
    free what it should, or changed what lives.
    """
    method = METHODS[name]
    # The last of all seeds has a next one, too.
    with layout(seed % (1 << 64), tables, live_inside=method.live_inside) as made:
        act = Act(device, made, max_hold_ns)
        before = cleanup.page_tables().vmpte_bytes
        measured = measure(lambda: method.act(act))
        fall = before - cleanup.page_tables().vmpte_bytes
        goes = tables if method.frees or (method.frees_by_kernel and kernel_frees) else 0
        most = goes + (tables // 512 + 1 if method.unmaps else 0)
        if not goes <= fall // PAGE <= most:
            raise ExperimentError(
                f"{method.label}: VmPTE fell by {fall // PAGE} tables, not by {goes}"
            )
        if act.counts and act.counts.freed[0] != goes:
            raise ExperimentError(
                f"{method.label}: the module says it freed {act.counts.freed[0]} tables, "
                f"but {goes} went"
            )
        if not made.intact():
            raise ExperimentError(f"{method.label}: the contents of live tables changed")
        if not made.empty_reads_zero():
            raise ExperimentError(f"{method.label}: what was given back does not read as zero")
    return Round(measured, fall, act.counts)
