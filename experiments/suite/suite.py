# SPDX-License-Identifier: MIT
"""The suites there are, and what is in each."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cleanup.experiments.suite.part import Part, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[Sequence[tuple[str, Result]]], "Figure"]
"""Of a part's results with the kernels' releases, the picture."""

_PACKAGE = "cleanup.experiments"


@dataclass(frozen=True, slots=True)
class Suite:
    """`name` is what the command line and the JSON say, `package` that of `_PACKAGE` it is."""

    name: str
    package: str
    description: str

    def parts(self) -> dict[str, Part]:
        """Its parts by name: the modules of ``parts/``, by their `PART`."""
        found: dict[str, Part] = {
            module.PART.name: module.PART for module in self._modules("parts")
        }
        return dict(sorted(found.items()))

    def plots(self) -> dict[str, Draw]:
        """Plots by the name of their part: the modules of ``plots/``, by their `draw`."""
        return {
            module.__name__.rpartition(".")[2]: module.draw for module in self._modules("plots")
        }

    @property
    def template(self) -> str:
        """What the report says of it, as a template of the package `_PACKAGE`."""
        return f"{self.package}/report.html.j2"

    def _modules(self, kind: str) -> Iterator[ModuleType | Any]:
        package = importlib.import_module(f"{_PACKAGE}.{self.package}.{kind}")
        for module in pkgutil.iter_modules(package.__path__):
            yield importlib.import_module(f"{package.__name__}.{module.name}")


SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "allocators",
            "allocators",
            "what allocators leave empty, by the preload library and by jemalloc's hooks: tables, "
            "CPU time, forks",
        ),
        Suite(
            "reclaim-cost",
            "cost",
            "cost of freeing empty page tables by the module and by what a program can do without "
            "it: instructions, shootdowns, lock holds",
        ),
    )
}
"""By name."""
