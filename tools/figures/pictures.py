# SPDX-License-Identifier: MIT
"""Pictures of stored experiments; each file holds a digest of what it was drawn from."""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from of_experiments import SIZES, Unknown, is_on, measured_at_sizes
from PIL import Image

from experiments import growth, savings
from experiments.document import Document

DOCS = Path(__file__).parents[2] / "docs"
KERNEL = "7.3"
SCALED = "tebibyte-empty"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that `draw` makes of `shown`; its file is stale once either has changed."""

    path: Path
    draw: Callable[..., Figure]
    shown: tuple[Any, ...]

    @property
    def is_fresh(self) -> bool:
        """Whether the file is there, and drawn by this code from these results."""
        if not self.path.exists():
            return False
        with Image.open(self.path) as image:
            return image.info.get("Source") == self._digest

    def write(self) -> None:
        """Draw the picture and write its file."""
        self.draw(*self.shown).savefig(self.path, dpi=100, metadata={"Source": self._digest})

    @property
    def _digest(self) -> str:
        source = repr(self.shown) + inspect.getsource(self.draw)
        return hashlib.sha256(source.encode()).hexdigest()


def pictures(stored: Sequence[Document]) -> list[Picture]:
    """Return the pictures of the docs."""
    (saved,) = savings.on_kernels([one for one in stored if is_on(one, KERNEL)])
    scaled = growth.curves(measured_at_sizes()).get(SCALED)
    if scaled is None:
        raise Unknown(f"no three sizes of {SCALED} are in {SIZES}")
    return [
        Picture(DOCS / "savings.png", savings.draw, (saved,)),
        Picture(DOCS / "scale.png", growth.draw, (SCALED, scaled)),
    ]
