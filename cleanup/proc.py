# SPDX-License-Identifier: MIT
"""Readers of /proc, which psutil has no figures for."""

import os
import time
from collections.abc import Callable
from pathlib import Path

_STAT_REFRESH = Path("/proc/sys/vm/stat_refresh")
# An RCU grace period takes some 20 ms, and up to 100 ms where callbacks are batched.
SETTLE_SECONDS = 0.15
_SETTLE_TRIES = 40


def kilobytes(path: Path) -> dict[str, int]:
    """The `Name: N kB` lines of a file, in bytes; OSError where it can't be read."""
    figures = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if len(words) == 2 and words[1] == "kB":
            figures[name] = int(words[0]) * 1024
    return figures


def pagetables_bytes() -> int:
    """Page tables of the whole machine: PageTables of /proc/meminfo.

    The kernel adds it up from per-CPU parts of up to some 500 kB each; root can have
    them folded in first, others get it as it stands.
    """
    if os.access(_STAT_REFRESH, os.W_OK):
        _STAT_REFRESH.write_text("1", encoding="ascii")
    return kilobytes(Path("/proc/meminfo"))["PageTables"]


def settled(
    read: Callable[[], int], *, quiet_seconds: float = SETTLE_SECONDS, goal: int | None = None
) -> int:
    """What `read` gives, in bytes, once it is down to `goal` or fell no more for `quiet_seconds`.

    For figures of page tables, which are freed only after an RCU grace period. Gives up after 6 s.
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
    """`pagetables_bytes` once it falls no more."""
    return settled(pagetables_bytes)


def tlb_shootdowns() -> int:
    """TLB shootdown interrupts so far on all CPUs: the TLB line of /proc/interrupts."""
    for line in Path("/proc/interrupts").read_text(encoding="utf-8").splitlines():
        name, _, counts = line.strip().partition(":")
        if name == "TLB":
            return sum(int(word) for word in counts.split() if word.isdigit())
    return 0
