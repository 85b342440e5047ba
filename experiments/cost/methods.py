# SPDX-License-Identifier: MIT
"""The methods of freeing page tables that are compared: each runs on the same layout."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import cleanup
from cleanup import _mapping, _uapi, device, probe
from experiments.cost import _calls
from experiments.cost.turns import by_turns
from experiments.part import ExperimentError, Scale
from experiments.sparse import PAGE, UNIT, SparseMapping, sparse_mapping

TABLES = 4096
QUICK_TABLES = 256
LIVE_TABLES = 16
# This bound ends each hold of the mmap lock, and so each batch, after its first table.
ONE_TABLE_HOLD_NS = 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Layout:
    """A mapping with `tables` empty PTE tables, and LIVE_TABLES more that hold a page each.

    `empty` has the runs of 2 MiB units whose tables are empty: the first of a run, and the one past
    its last. `live` are the other units. The empty tables lie in the first `length` bytes; the live
    ones lie between them or behind.
    """

    mapping: SparseMapping
    empty: Sequence[tuple[int, int]]
    live: Sequence[int]
    length: int
    tables: int

    @property
    def span(self) -> tuple[int, int]:
        """The address and the length of the range whose empty tables a method is to free."""
        return self.mapping.address, self.length

    def intact(self) -> bool:
        """Tell whether the live pages read as they were written."""
        return self.mapping.is_filled(self.live)

    def empty_reads_zero(self) -> bool:
        """Tell whether released memory reads as zeros and can be written; this makes new tables."""
        return self.mapping.released_reads_zero(self.empty, sample=8)


@contextmanager
def layout(seed: int, tables: int, *, live_inside: bool) -> Iterator[Layout]:
    """Yield a new layout: a page is touched in each 2 MiB, and all but the live ones released."""
    units = tables + LIVE_TABLES
    step = units // LIVE_TABLES
    live = range(step // 2, units, step) if live_inside else range(tables, units)
    with sparse_mapping(units * UNIT, seed=seed) as mapping:
        empty = mapping.around(live)
        mapping.touch(0, units)
        for first, last in empty:
            mapping.release(first, last)
        mapping.fill(live)
        length = (units if live_inside else tables) * UNIT
        yield Layout(mapping, empty, live, length, tables)


Act = Callable[[Layout, Callable[..., _uapi.Counts]], _uapi.Counts | None]
"""What a method does to a layout.  Its second argument calls the module on the layout's range."""


@dataclass(frozen=True, slots=True)
class CostMethod:
    """One method of freeing the tables of a layout.

    `frees` says that it frees all empty tables on every kernel, `frees_by_kernel` that it does so
    only on kernels with PT_RECLAIM. A method that `unmaps` frees the range's upper tables, too.
    """

    label: str
    act: Act
    live_inside: bool = False
    frees: bool = True
    frees_by_kernel: bool = False
    unmaps: bool = False

    def idle(self, vmpte_fall_bytes: int) -> bool:
        """Tell whether the method is meant to free tables, but this kernel kept them."""
        return (self.frees or self.frees_by_kernel) and not vmpte_fall_bytes


METHODS = {
    "module": CostMethod("module", lambda _, call: call()),
    "module_live_inside": CostMethod(
        "module, live tables between", lambda _, call: call(), live_inside=True
    ),
    "module_scan": CostMethod(
        "module, scan only", lambda _, call: call(flags=_uapi.SCAN_ONLY), frees=False
    ),
    "module_flush_each": CostMethod(
        "module, a flush for each table", lambda _, call: call(max_hold_ns=ONE_TABLE_HOLD_NS)
    ),
    "zap": CostMethod(
        "zap: one MADV_DONTNEED",
        lambda made, _: made.mapping.zap(0, made.length // UNIT),
        frees=False,
        frees_by_kernel=True,
    ),
    "munmap": CostMethod(
        "remap: munmap and mmap", lambda made, _: _calls.unmap_and_map(*made.span), unmaps=True
    ),
    "remap": CostMethod(
        "remap: one MAP_FIXED", lambda made, _: _mapping.replace(*made.span), unmaps=True
    ),
    "remap_each": CostMethod(
        "remap: MAP_FIXED over each 2 MiB",
        lambda made, _: _calls.replace_by_blocks(*made.span, UNIT),
        unmaps=True,
    ),
}


@dataclass(frozen=True, slots=True)
class MethodRun(Generic[T]):
    """One run of a method: what `measure` returned, the fall of VmPTE, and the module's counts."""

    measured: T
    vmpte_fall_bytes: int
    counts: _uapi.Counts | None


def run_all(
    scale: Scale,
    runs: int,
    measure: Callable[[Callable[[], None]], T],
    *,
    warm_up: bool = False,
    max_hold_ns: int = 0,
) -> tuple[int, dict[str, list[MethodRun[T]]]]:
    """Run every method `runs` times, in turns; return the number of tables, and the runs by name.

    Each run has a new layout. `measure` must call its argument once, which frees tables.
    `max_hold_ns` bounds the module's lock holds; 0 stands for its default. Raises ExperimentError
    where a method did not free what it should, or changed the contents of live pages.
    """
    tables = scale.pick(TABLES, QUICK_TABLES)
    kernel_frees = probe.dontneed_frees_tables()
    with device.opened() as opened:
        call = partial(_uapi.call, opened.fd, levels=_uapi.LEVELS["pte"], max_hold_ns=max_hold_ns)

        def run(name: str, number: int) -> MethodRun[T]:
            method = METHODS[name]
            # Seeds have 64 bits: seed 0 follows the largest one.
            seed = (scale.seed + number) % (1 << 64)
            with layout(seed, tables, live_inside=method.live_inside) as made:
                return _run(method, made, call, measure, kernel_frees=kernel_frees)

        return tables, by_turns(METHODS, runs, run, progress=scale.progress, warm_up=warm_up)


def _run(
    method: CostMethod,
    made: Layout,
    call: Callable[..., _uapi.Counts],
    measure: Callable[[Callable[[], None]], T],
    *,
    kernel_frees: bool,
) -> MethodRun[T]:
    done: list[_uapi.Counts | None] = []
    over_range = partial(call, ranges=(made.span,))
    before = cleanup.page_tables().vmpte_bytes
    measured = measure(lambda: done.append(method.act(made, over_range)))
    fall = before - cleanup.page_tables().vmpte_bytes
    (counts,) = done
    goes = made.tables if method.frees or (method.frees_by_kernel and kernel_frees) else 0
    most = goes + (made.tables // 512 + 1 if method.unmaps else 0)
    failed = None
    if not goes <= fall // PAGE <= most:
        failed = f"VmPTE fell by {fall // PAGE} tables, not by {goes}"
    elif counts and counts.freed[0] != goes:
        failed = f"the module says it freed {counts.freed[0]} tables, but {goes} went"
    elif not made.intact():
        failed = "the contents of live tables changed"
    elif not made.empty_reads_zero():
        failed = "what was given back does not read as zero"
    if failed:
        raise ExperimentError(f"{method.label}: {failed}")
    return MethodRun(measured, fall, counts)
