# SPDX-License-Identifier: MIT
"""Loops whose instructions are known or must be few.

Addresses and lengths are in bytes; a counter is a buffer of one 64-bit number.
"""

from typing_extensions import Buffer

def count(counter: Buffer) -> None:
    """Add 1 to the counter for ever, by two instructions a round; ends with the parent process."""

def loop(instructions: int) -> None:
    """Run so many instructions, an even number."""

def unmap_and_map(address: int, length: int) -> None:
    """munmap() and then mmap() private anonymous memory in its place. OSError."""

def replace_by_blocks(address: int, length: int, block: int) -> None:
    """mmap(MAP_FIXED) private anonymous memory over each whole block in turn. OSError."""
