# SPDX-License-Identifier: MIT
"""What a workload is, to those who write one and to those who run it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

PHASES = ("start", "touched", "released", "cleaned")
GRANULARITIES: Mapping[str, int] = {"4k": 4 << 10, "64k": 64 << 10, "2m": 2 << 20}
# The granularity of a workload that releases nothing.
NO_RELEASE = "-"
TOUCHES = ("one", "all")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a run depends on.

    `size_bytes` are mapped; `granularity` is the size of each release call (NO_RELEASE: there
    are none), `touch` how many pages of each 2 MiB are touched; `seed` chooses pages and
    contents.
    """

    size_bytes: int
    granularity: str
    touch: str
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """`contents_intact`: all reads as it should, what was released or never written as zero.

    `survivors` are pages kept; `counts` is what else the workload counted, each by a name
    that says what.
    """

    contents_intact: bool
    survivors: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


class Measure(Protocol):
    """Halts the process and has its figures read from outside."""

    def __call__(
        self,
        phase: str,
        seconds: float = 0.0,
        populated: Sequence[tuple[int, int]] = (),
        pids: Sequence[int] = (),
    ) -> None:
        """Figures of `phase`, which took `seconds`; of a phase met again, the highest and the sum.

        `populated`: address ranges of which every GiB has held a page.  `pids`: processes that
        wait as well, and whose figures are added.
        """


class Mapped(Protocol):
    """Memory whose tables are to be freed; `SparseMapping` is such."""

    @property
    def range(self) -> tuple[int, int]:
        """First address, of a page, and the one past the last."""

    def zap(self, first: int, last: int) -> None:
        """One MADV_DONTNEED over units of 2 MiB, counted from the first whole one; OSError."""


class Clean(Protocol):
    """Has the backend free page tables, and measures the phase `cleaned`."""

    def __call__(
        self, mapping: Mapped, empty: Sequence[tuple[int, int]], pids: Sequence[int] = ()
    ) -> None:
        """`empty`: the runs of 2 MiB units, first and past the last, that hold no data.

        `pids`: processes that have the mapping at the same place, and are measured with it.
        """


class Workload(Protocol):
    """Makes page tables, releases the memory under them, and has them cleaned.

    `size_bytes` and `repeats` are its defaults, as are the first of `touches` and of
    `granularities`; --quick runs it once.  `rehearsal_bytes` suffice for each thing a run
    does to happen once; `guest_memory` and `guest_disk`, a scratch disk, are what a lab
    guest needs.  With `zero_pages` its tables hold the shared zero page: the module drops
    such entries, and the oracle judges tables that hold no other as empty.  A `control` is
    one where nothing is to be gained.
    """

    name: str
    description: str
    size_bytes: int
    touches: tuple[str, ...] = ("one",)
    granularities: tuple[str, ...] = tuple(GRANULARITIES)
    repeats: int = 1
    rehearsal_bytes: int
    guest_memory: str = "2G"
    guest_disk: str | None = None
    zero_pages: bool = False
    control: bool = False

    def details(self, parameters: Parameters) -> Mapping[str, Any]:
        """What else of the run's make-up belongs in the JSON's parameters."""

    def run(self, measure: Measure, clean: Clean, parameters: Parameters) -> Outcome:
        """Run once, measuring every phase in order: start, touched, released, cleaned."""
