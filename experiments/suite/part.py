# SPDX-License-Identifier: MIT
"""What a part of a suite is, to those who write one and to those who run it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, runtime_checkable

from experiments.measure import Progress

Result = dict[str, Any]
"""What JSON holds; a figure's unit ends its name: `_ns`, `_instructions`, `_bytes`."""
Row = tuple[str, str]
"""What was measured, and its value with its spread and unit, for people."""


@dataclass(frozen=True, slots=True)
class Guest:
    """The machine that a part needs; parts that need the same one share it.

    With `icount` its CLOCK_MONOTONIC counts instructions, one a nanosecond, and skips idle
    time by jumping; `memory` is a size such as ``2G``, and so is `disk`, that of a scratch disk.
    What is measured with `hardware` are a processor's times, of which an emulator's say nothing.
    """

    icount: bool
    cpus: int
    memory: str = "2G"
    disk: str | None = None
    hardware: bool = False


class Claim(TypedDict):
    """What the project says of a figure: `value` is to be within `limit`, and `met` if it is."""

    claim: str
    limit: float
    value: float
    met: bool


class Part(Protocol):
    """A module of `parts/` takes part by defining one as `PART`."""

    @property
    def name(self) -> str:
        """The module's, too."""

    @property
    def description(self) -> str:
        """One sentence, without its full stop."""

    @property
    def guest(self) -> Guest:
        """Where it runs."""

    def measure(self, *, quick: bool, seed: int, progress: Progress) -> Result:
        """Measure on this machine: the guest, or with --host whichever it is.

        `quick` runs fewer repeats, at the same size.  `claims`, if it has any, are the
        result's list of `Claim`; one that is missed is a result like any other.  Raises
        CleanupError that says what this machine lacks, be it root or the module; that or
        OSError where nothing can be measured, or a check of what is measured fails.
        """

    def rows(self, result: Result) -> Sequence[Row]:
        """The result as a table, without its claims."""


@dataclass(frozen=True, slots=True)
class Saving:
    """Page tables of a process, in tables: after the release, `empty` ones of those, and `freed`.

    `freed` is what `reclaim` freed, None where the module was not there; of a `control` nothing
    is to be gained.
    """

    name: str
    tables: int
    empty: int
    freed: int | None
    control: bool


@runtime_checkable
class Saves(Protocol):
    """A part that measures what is saved, too."""

    def savings(self, result: Result) -> Sequence[Saving]:
        """For the table of all workloads."""


def at_most(claim: str, value: float, limit: float) -> Claim:
    """A claim that `value` is no more than `limit`."""
    return {"claim": claim, "limit": limit, "value": value, "met": value <= limit}


def at_least(claim: str, value: float, limit: float) -> Claim:
    """A claim that `value` is no less than `limit`."""
    return {"claim": claim, "limit": limit, "value": value, "met": value >= limit}
