# SPDX-License-Identifier: MIT
"""Give back the memory of empty page tables.

The whole of it::

    import cleanup

    cleanup.scan(memory)       # how many page tables under it are empty?
    cleanup.reclaim(memory)    # free them
    cleanup.reclaim(4711)      # those of a whole process
    cleanup.page_tables(4711)  # what its page tables take
    cleanup.mappers("file")    # who maps it, and where: reclaim(pid, ranges=ranges)
    cleanup.features()         # what works on this host, and why the rest does not
"""

from cleanup.backends import features
from cleanup.call import reclaim, scan
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
from cleanup.process import PageTables, page_tables
from cleanup.result import Levels, Result
from cleanup.rmap import Mapper, mappers

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
    "Result",
    "Unmapped",
    "features",
    "mappers",
    "page_tables",
    "reclaim",
    "scan",
]
