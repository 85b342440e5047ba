# SPDX-License-Identifier: MIT
"""The kernel's settings, changed for a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def setting(path: Path, value: str) -> Iterator[None]:
    """Another value of a kernel's setting."""
    before = path.read_text()
    path.write_text(value)
    try:
        yield
    finally:
        path.write_text(before)
