# SPDX-License-Identifier: MIT
"""The methods of getting empty page tables freed: which of them work here, and why others don't."""

import mmap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from allocator_shim.errors import LibraryMissing
from allocator_shim.preloading import jemalloc_path
from cleanup import _uapi, device, probe
from cleanup.errors import CallFailed, ModuleMissing
from cleanup.host import HostKernel


@dataclass(frozen=True, slots=True)
class Method:
    """One method: what it does, whether it works on this host, and the reasons if it doesn't.

    `used_by` names the verbs, options and calls that free tables by it on this host, or would if it
    worked.
    """

    does: str
    works: bool
    reasons: tuple[str, ...] = ()
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Module:
    """The features of the loaded module.

    `flags` and `levels` name what it serves. `max_ranges` is the most ranges that one system call
    takes, and `batch` the most tables that it frees under one TLB flush. `default_max_hold_ns`
    bounds each hold of the mmap lock where the caller sets no bound.
    """

    abi_version: int
    proved_kernel: bool
    flags: tuple[str, ...]
    levels: tuple[str, ...]
    max_ranges: int
    batch: int
    default_max_hold_ns: int


@dataclass(frozen=True, slots=True)
class Features:
    """A report of what works on this host.

    `kernel` is the kernel's release and `machine` the architecture, as uname(2) names them.
    `paging_levels` is 4 or 5, and None where it can't be told. `proved_kernel` says whether the
    module loads on this kernel without allow_unproved. `pt_reclaim` says whether the kernel itself
    frees the tables under one MADV_DONTNEED of whole 2 MiB units, and `madvise` whether it answers
    MADV_CLEANUP_PGTABLE; both are found out by trying.

    `module` is None unless the module is loaded and open to this user. `module_obstacles` is what
    would keep this kernel from loading it, empty if nothing would. `methods` says of none, zap,
    remap, module and hooks whether each works here.
    """

    kernel: str
    machine: str
    page_bytes: int
    paging_levels: int | None
    proved_kernel: bool
    pt_reclaim: bool
    madvise: bool
    module: Module | None
    module_obstacles: tuple[str, ...]
    methods: Mapping[str, Method]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain dictionaries, lists and values."""
        return asdict(self)


EXEC_HOOKS = "exec --conf hooks:jemalloc"
# What frees tables by each method. The hooks do it by one of zap, module and remap.
USED_BY = {
    "none": ("any program that is run as it is",),
    "zap": ("experiment run",),
    "remap": ("experiment run",),
    "module": (
        *("scan", "reclaim", "exec", "cleanup.scan()", "cleanup.reclaim()"),
        *("MADV_CLEANUP_PGTABLE in C", "experiment run"),
    ),
    "hooks": (EXEC_HOOKS, "allocator_shim.jemalloc.install_hooks()", "experiment run"),
}
FLAGS = {
    "scan_only": _uapi.SCAN_ONLY,
    "whole_mm": _uapi.WHOLE_MM,
    "zero_pages": _uapi.ZERO_PAGES,
}


def features() -> Features:
    """Find out what works on this host, and why the rest does not.

    It tries the kernel out on scratch memory of its own, and touches no other memory::

        >>> cleanup.features().methods["module"].works
        False
        >>> cleanup.features().methods["module"].reasons
        ('the module is not loaded: there is no /dev/pgtable_cleanup',)
    """
    kernel = HostKernel.running()
    pt_reclaim = probe.dontneed_frees_tables()
    module: Module | None = None
    obstacles: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    try:
        with device.opened() as opened:
            module = _module(opened.features)
    except ModuleMissing:
        obstacles = tuple(kernel.obstacles())
        reasons = (f"the module is not loaded: there is no {_uapi.DEVICE}", *obstacles)
    except CallFailed as error:
        reasons = (str(error),)
    found = {
        "none": _none(pt_reclaim),
        "zap": _tried(
            "MADV_DONTNEED over whole 2 MiB units afterwards; private data in them would be lost",
            pt_reclaim,
            "MADV_DONTNEED",
        ),
        "remap": _tried(
            "mmap(MAP_FIXED) over memory that the caller mapped itself and has no more use for",
            probe.remap_frees_tables(),
            "mmap",
        ),
        "module": Method(
            "frees the empty tables of any mapping of any process, whenever asked",
            works=module is not None,
            reasons=reasons,
        ),
        "hooks": _hooks(),
    }
    return Features(
        kernel=kernel.release,
        machine=kernel.machine,
        page_bytes=mmap.PAGESIZE,
        paging_levels=kernel.paging_levels(),
        proved_kernel=kernel.is_proved(),
        pt_reclaim=pt_reclaim,
        madvise=probe.kernel_knows_advice(),
        module=module,
        module_obstacles=obstacles,
        methods={name: _with_users(name, found) for name in found},
    )


def _with_users(name: str, found: Mapping[str, Method]) -> Method:
    """Return a method with what uses it here."""
    # The hooks choose in this order, which hooks_best_way() in allocator_shim/jemalloc has, too.
    ways = ("zap", "module", "remap")
    by_hooks = name == next((way for way in ways if found[way].works), None)
    return replace(found[name], used_by=(EXEC_HOOKS,) * by_hooks + USED_BY[name])


def _none(pt_reclaim: bool) -> Method:
    of_itself = (
        "where one spans whole 2 MiB units, this kernel frees their tables (PT_RECLAIM)"
        if pt_reclaim
        else "this kernel frees no tables by itself"
    )
    return Method(f"nothing after the release; {of_itself}", works=True)


def _tried(does: str, works: bool, call: str) -> Method:
    reason = f"this kernel keeps the tables under {call}: tried on scratch memory"
    return Method(does, works, () if works else (reason,))


def _hooks() -> Method:
    does = "jemalloc gives whole 2 MiB units back once they are empty, and needs no module for it"
    try:
        jemalloc_path()
    except LibraryMissing as error:
        return Method(does, works=False, reasons=(str(error),))
    return Method(does, works=True)


def _module(answer: _uapi.ModuleFeatures) -> Module:
    return Module(
        abi_version=answer.abi_version,
        proved_kernel=not answer.features & _uapi.FEATURE_UNPROVED,
        flags=tuple(name for name, bit in FLAGS.items() if answer.flags & bit),
        levels=tuple(name for name, bit in _uapi.LEVELS.items() if answer.levels & bit),
        max_ranges=answer.max_ranges,
        batch=answer.batch,
        default_max_hold_ns=answer.default_max_hold_ns,
    )
