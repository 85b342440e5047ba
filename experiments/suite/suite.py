# SPDX-License-Identifier: MIT
"""What a suite is; a package of experiments is one by defining it as `SUITE`.

Whatever is imported of that package imports this, too, be it the program that is measured:
nothing here needs more than Python itself.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from experiments.suite.part import Part, Result

Draw = Callable[[Sequence[tuple[str, "Result"]]], "Figure"]
"""Of a part's results with the kernels' releases, the picture."""


@dataclass(frozen=True, slots=True)
class Suite:
    """`name` is what the command line and the JSON say, `package` the `__name__` of its own."""

    name: str
    package: str
    description: str

    def parts(self) -> "dict[str, Part]":
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
        """What the report says of it, as a template of the experiments."""
        return f"{self.package.rpartition('.')[2]}/report.html.j2"

    def _modules(self, kind: str) -> Iterator[ModuleType | Any]:
        package = importlib.import_module(f"{self.package}.{kind}")
        for module in pkgutil.iter_modules(package.__path__):
            yield importlib.import_module(f"{package.__name__}.{module.name}")
