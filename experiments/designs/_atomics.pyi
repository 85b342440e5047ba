# SPDX-License-Identifier: MIT
"""Loops of atomic operations, without the GIL.

`word` is a writable buffer of 64-bit numbers, of which the first is used.
"""

from typing_extensions import Buffer

def references(word: Buffer, pairs: int) -> None:
    """Add a reference and drop it, `pairs` times."""

def read_locks(word: Buffer, pairs: int) -> None:
    """Take a reader-writer lock for reading and leave it, `pairs` times; nobody writes."""
