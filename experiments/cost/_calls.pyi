# SPDX-License-Identifier: MIT
"""Loops that run a known number of instructions, or as few as possible.

Addresses and lengths are in bytes; a counter is a buffer of one 64-bit number.
"""

from typing_extensions import Buffer

def count(counter: Buffer) -> None:
    """Add 1 to the counter in a loop of two instructions, until the parent process ends."""

def loop(instructions: int) -> None:
    """Run the given number of instructions, which must be even."""

def unmap_and_map(address: int, length: int) -> None:
    """Unmap a range, then map private anonymous memory in its place. Raises OSError."""

def replace_by_blocks(address: int, length: int, block: int) -> None:
    """Map private anonymous memory over each block of a range in turn. Raises OSError."""
