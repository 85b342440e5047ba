# SPDX-License-Identifier: MIT
"""Reads figures from /proc that psutil does not have."""

import os
import time
from collections.abc import Callable
from pathlib import Path

_STAT_REFRESH = Path("/proc/sys/vm/stat_refresh")
# An RCU grace period takes some 20 ms, and up to 100 ms where callbacks are batched.
SETTLE_SECONDS = 0.15
_SETTLE_TRIES = 40


def kilobytes(path: Path) -> dict[str, int]:
    """Return the `Name: N kB` lines of a file, in bytes. Raises OSError if it can't be read."""
    figures = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if len(words) == 2 and words[1] == "kB":
            figures[name] = int(words[0]) * 1024
    return figures


def pagetables_bytes() -> int:
    """Return the bytes of page tables of the whole machine: PageTables of /proc/meminfo.

    The kernel adds the figure up from per-CPU parts of up to some 500 kB each. For root they are
    folded in first; others get the figure as it stands.
    """
    if os.access(_STAT_REFRESH, os.W_OK):
        _STAT_REFRESH.write_text("1", encoding="ascii")
    return kilobytes(Path("/proc/meminfo"))["PageTables"]


def settled(
    read: Callable[[], int], *, quiet_seconds: float = SETTLE_SECONDS, goal: int | None = None
) -> int:
    """Return what `read` gives once it is down to `goal`, or has not fallen for `quiet_seconds`.

    Figures of page tables need that, as tables are freed only after an RCU grace period. After 6 s
    the last figure is returned as it is.
    """
    last = read()
    quiet = 0.0
    for _ in range(_SETTLE_TRIES):
        if quiet >= quiet_seconds or (goal is not None and last <= goal):
            break
        time.sleep(SETTLE_SECONDS)
        now = read()
        quiet = quiet + SETTLE_SECONDS if now >= last else 0.0
        last = now
    return last


def settled_pagetables_bytes() -> int:
    """Return `pagetables_bytes` once it falls no more."""
    return settled(pagetables_bytes)


def tlb_shootdowns() -> int:
    """Return the TLB shootdown interrupts so far on all CPUs: the TLB line of /proc/interrupts."""
    for line in Path("/proc/interrupts").read_text(encoding="utf-8").splitlines():
        name, _, counts = line.strip().partition(":")
        if name == "TLB":
            return sum(int(word) for word in counts.split() if word.isdigit())
    return 0
