# SPDX-License-Identifier: MIT
"""System calls by libc's syscall()."""

def ask(times: int) -> None:
    """One that does nothing, so often."""
