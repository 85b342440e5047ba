# SPDX-License-Identifier: MIT
"""Give back the memory of empty page tables.

The package in six calls::

    import cleanup

    cleanup.scan(memory)       # how many page tables under it are empty?
    cleanup.reclaim(memory)    # free them
    cleanup.reclaim(4711)      # free those of a whole process
    cleanup.page_tables(4711)  # how much memory do its page tables take?
    cleanup.mappers("file")    # which processes map it, and in which ranges?
    cleanup.features()         # what works on this host, and why does the rest not?
"""

from typing import TYPE_CHECKING

from cleanup.cleaning import reclaim, scan
from cleanup.errors import (
    AbiMismatch,
    CallFailed,
    CleanupError,
    Contended,
    ModuleMissing,
    NotPermitted,
    ProcessGone,
    Unmapped,
)
from cleanup.methods import features
from cleanup.process import PageTables, page_tables
from cleanup.ranges import Range
from cleanup.result import Levels, Result
from cleanup.rmap import Mapper, mappers
from cleanup.skip_reason import SkipReason

if TYPE_CHECKING:
    __version__: str

__all__ = [
    "AbiMismatch",
    "CallFailed",
    "CleanupError",
    "Contended",
    "Levels",
    "Mapper",
    "ModuleMissing",
    "NotPermitted",
    "PageTables",
    "ProcessGone",
    "Range",
    "Result",
    "SkipReason",
    "Unmapped",
    "__version__",
    "features",
    "mappers",
    "page_tables",
    "reclaim",
    "scan",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> str:
        """Return the version, looked up on demand as importlib.metadata is slow to import."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version  # noqa: PLC0415

        return version("pgtable-cleanup")
