# SPDX-License-Identifier: MIT
"""The type of objects with the buffer protocol, for type hints that are read at run time, too."""

import sys
from abc import ABC
from typing import TYPE_CHECKING

if sys.version_info >= (3, 12):
    from collections.abc import Buffer
elif TYPE_CHECKING:
    from typing_extensions import Buffer
else:

    class Buffer(ABC):  # noqa: B024 -- Python 3.11 has no method that it could ask for
        """Any object with the buffer protocol, such as bytearray, mmap.mmap or numpy.ndarray."""


__all__ = ["Buffer"]
