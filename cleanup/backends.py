# SPDX-License-Identifier: MIT
"""The ways to get empty page tables back: which of them work here, and why the rest do not."""

import mmap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cleanup import _uapi, device, trial
from cleanup.errors import CallFailed, ModuleMissing
from cleanup.host import Kernel


@dataclass(frozen=True, slots=True)
class Backend:
    """One way: what it does, whether it works on this host, and if not, why."""

    does: str
    works: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Module:
    """What the loaded module can do; of `flags` and `levels`, those it serves by name."""

    abi_version: int
    proved_kernel: bool
    flags: tuple[str, ...]
    levels: tuple[str, ...]
    max_ranges: int
    batch: int
    default_max_hold_ns: int


@dataclass(frozen=True, slots=True)
class Features:
    """What works on this host.

    `paging_levels` is 4 or 5, None if unknown; `pt_reclaim` whether the kernel itself frees the
    tables under one MADV_DONTNEED of whole 2 MiB units, found by trying; `madvise` whether it
    answers MADV_CLEANUP_PGTABLE; `module` None unless the module is loaded and open to us, and
    `module_obstacles` what would keep it from being loaded.
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
    backends: Mapping[str, Backend]

    def to_json(self) -> dict[str, Any]:
        """The same as plain dictionaries, lists and values."""
        return asdict(self)


FLAGS = {
    "scan_only": _uapi.SCAN_ONLY,
    "whole_mm": _uapi.WHOLE_MM,
    "zero_pages": _uapi.ZERO_PAGES,
}


def features() -> Features:
    """Find out what works on this host. Frees nothing but scratch memory of its own."""
    kernel = Kernel.running()
    pt_reclaim = trial.dontneed_frees_tables()
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
    return Features(
        kernel=kernel.release,
        machine=kernel.machine,
        page_bytes=mmap.PAGESIZE,
        paging_levels=kernel.paging_levels(),
        proved_kernel=kernel.is_proved(),
        pt_reclaim=pt_reclaim,
        madvise=trial.kernel_knows_advice(),
        module=module,
        module_obstacles=obstacles,
        backends={
            "none": Backend(
                "nothing but the release itself; of that, this kernel "
                + ("frees whole 2 MiB units' tables (PT_RECLAIM)" if pt_reclaim else "frees none"),
                works=True,
            ),
            "zap": Backend(
                "MADV_DONTNEED over whole 2 MiB units afterwards; drops what private ones hold",
                works=pt_reclaim,
                reasons=()
                if pt_reclaim
                else ("this kernel keeps the tables under MADV_DONTNEED: tried on scratch memory",),
            ),
            "remap": _remap(),
            "module": Backend(
                "frees the empty tables of any mapping of any process, whenever asked",
                works=module is not None,
                reasons=reasons,
            ),
        },
    )


def _remap() -> Backend:
    works = trial.remap_frees_tables()
    return Backend(
        "mmap(MAP_FIXED) over memory that the caller mapped itself and has no use for any more",
        works,
        () if works else ("this kernel keeps the tables under mmap: tried on scratch memory",),
    )


def _module(answer: _uapi.Features) -> Module:
    return Module(
        abi_version=answer.abi_version,
        proved_kernel=not answer.features & _uapi.FEATURE_UNPROVED,
        flags=tuple(name for name, bit in FLAGS.items() if answer.flags & bit),
        levels=tuple(name for name, bit in _uapi.LEVELS.items() if answer.levels & bit),
        max_ranges=answer.max_ranges,
        batch=answer.batch,
        default_max_hold_ns=answer.default_max_hold_ns,
    )
