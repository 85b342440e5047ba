# SPDX-License-Identifier: MIT
"""The interface of a part (one experiment), for those who write parts and those who run them.

Programs that are measured import packages of experiments, and with them this module: it must
work without any third-party library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypedDict

from cleanup.errors import CleanupError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from experiments.document import Document

Measured = dict[str, Any]
"""The figures of a part, as JSON holds them. A name ends with the unit: `_ns`, `_instructions`."""
Documents: TypeAlias = "Sequence[Document]"
"""The documents of one part, one for each kernel; each has measured something."""
Pictures: TypeAlias = "Mapping[str, Figure]"
"""The pictures of a part, by a suffix of their file names, which may be empty."""
Row = tuple[str, ...]
Progress = Callable[[str], None]

OPTIONS = {
    "methods": "--method",
    "granularities": "--granularity",
    "touch": "--touch",
    "size_bytes": "--size",
    "repeats": "--repeat",
}
"""The fields of a Scale that not every part supports, and their command-line options."""


class ExperimentError(CleanupError):
    """An experiment can't be run, or what it checks does not hold."""


def _silent(_message: str) -> None:
    """Ignore a message about progress."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The amount to measure; None and () leave the choice to the part.

    A quick measurement takes seconds: each part has a smaller layout for it. Claims are judged
    at full scale only.
    """

    quick: bool = False
    size_bytes: int | None = None
    granularities: tuple[str, ...] = ()
    touch: str | None = None
    repeats: int | None = None
    methods: tuple[str, ...] = ()
    seed: int = 1
    progress: Progress = field(default=_silent, compare=False)

    def pick(self, full: int, quick: int) -> int:
        """Return the full size of a layout, or the quick one in a quick measurement."""
        return quick if self.quick else full

    def runs(self, full: int, quick: int = 1) -> int:
        """Return how often to measure: as the user says, or by default like `pick`."""
        return self.repeats or self.pick(full, quick)

    def to_json(self) -> dict[str, Any]:
        """Return all fields but the progress, as JSON holds them."""
        return {one.name: getattr(self, one.name) for one in fields(self)[:-1]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], progress: Progress = _silent) -> Scale:
        """Return the scale from which `to_json` made `values`."""
        listed: dict[str, Any] = {
            name: tuple(one) if isinstance(one, list) else one for name, one in values.items()
        }
        return cls(**listed, progress=progress)


@dataclass(frozen=True, slots=True)
class Needs:
    """The machine that a part is measured on; in the lab, parts with equal needs share a guest.

    With `icount`, CLOCK_MONOTONIC counts instructions, one a nanosecond, and jumps over idle time.
    `hardware` marks a part that times a real processor: an emulator's times say nothing of it.
    """

    icount: bool = False
    cpus: int = 2
    memory: str = "4G"
    disk: str | None = "2G"
    hardware: bool = False

    def machine(self) -> dict[str, Any]:
        """Return by name the fields that `lab.Machine` has, too."""
        machine = asdict(self)
        del machine["hardware"]
        return machine


COUNTING = Needs(icount=True, cpus=1, disk=None)
"""A guest that counts instructions."""


class Claim(TypedDict):
    """A promise about a figure: `value` is within `limit`, and `met` says if it is."""

    claim: str
    limit: float
    value: float
    met: bool


def at_most(claim: str, value: float, limit: float) -> Claim:
    """Claim that `value` is no more than `limit`."""
    return {"claim": claim, "limit": limit, "value": value, "met": value <= limit}


def at_least(claim: str, value: float, limit: float) -> Claim:
    """Claim that `value` is no less than `limit`."""
    return {"claim": claim, "limit": limit, "value": value, "met": value >= limit}


def claim_text(claim: Claim) -> str:
    """Return a claim for people: `met: what it says: 32, limit 50`."""
    value, limit = (
        # A small figure needs enough digits to be told from its limit.
        f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.5g}"
        for figure in (claim["value"], claim["limit"])
    )
    return f"{'met' if claim['met'] else 'MISSED'}: {claim['claim']}: {value}, limit {limit}"


@dataclass(frozen=True, slots=True)
class Saving:
    """A line of the table of savings: numbers of page tables, of one process or several.

    `tables` were there after the release, and `empty` of them were empty. `freed` is what reclaim
    freed, None without the module. A `control` is a case where nothing should be gained.
    """

    name: str
    tables: int
    empty: int
    freed: int | None
    control: bool


class Part:
    """One experiment. A module defines one as `PART`, or several as `PARTS`; `registry` finds them.

    A subclass sets `name` and `description`, one sentence without its full stop, and defines
    `measure` and `rows`. `options` are the fields of a Scale that it supports beside `quick` and
    `seed`; `headings` are those of its rows. In a `control`, freeing gains nothing.
    """

    name: str
    description: str
    needs: Needs = Needs()
    control: bool = False
    options: ClassVar[frozenset[str]] = frozenset({"repeats"})
    headings: ClassVar[Row] = ()

    def needs_at(self, _scale: Scale) -> Needs:
        """Return the machine that the part needs at a scale."""
        return self.needs

    def check(self, scale: Scale) -> None:
        """Raise ValueError if the scale sets an option that the part does not support."""
        for name, option in OPTIONS.items():
            if getattr(scale, name) and name not in self.options:
                raise ValueError(f"{self.name} has no {option}: its layouts are its own")

    def measure(self, scale: Scale) -> Measured:
        """Measure the part on this machine, and return its figures.

        `unavailable` in the result says by name what could not be measured, and why. Raises
        CleanupError or OSError if nothing can be measured or a check of what is measured fails.
        """
        raise NotImplementedError

    def rows(self, measured: Measured) -> Sequence[Row]:
        """Return the table of what was measured, for people."""
        raise NotImplementedError

    def title(self, _measured: Measured) -> str:
        """Return the title of the table."""
        return self.description

    def details(self, _measured: Measured) -> Sequence[str]:
        """Return sentences that the report prints below the table."""
        return ()

    def claims(self, _measured: Measured) -> list[Claim]:
        """Judge the project's claims; a missed claim is a result, and fails no run."""
        return []

    def violations(self, _measured: Measured) -> list[str]:
        """Return the invariants that the figures break, a sentence each; any fails the run."""
        return []

    def savings(self, _measured: Measured) -> Sequence[Saving]:
        """Return the part's lines in the table of savings."""
        return ()

    def draw(self, _documents: Documents) -> Pictures:
        """Draw the part's figures, from all kernels that it was measured on."""
        return {}


@dataclass(frozen=True, slots=True)
class Group:
    """Parts in one package; `registry` finds a package that defines its group as `GROUP`.

    `package` holds the parts, one module each. A part's name begins with the group's and a slash,
    unless the group is `plain`.
    """

    name: str
    package: str
    description: str
    plain: bool = False

    def has(self, name: str) -> bool:
        """Tell whether the name of a part belongs to this group."""
        return self.plain if "/" not in name else name.startswith(f"{self.name}/")
