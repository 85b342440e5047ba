# SPDX-License-Identifier: MIT
"""Readers of /proc, which psutil has no figures for."""

import os
import time
from pathlib import Path

_STAT_REFRESH = Path("/proc/sys/vm/stat_refresh")
# An RCU grace period takes some 20 ms, and up to 100 ms where callbacks are batched.
_SETTLE_SECONDS = 0.15
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


def settled_pagetables_bytes() -> int:
    """The same once it falls no more: tables are freed only after an RCU grace period."""
    last = pagetables_bytes()
    for _ in range(_SETTLE_TRIES):
        time.sleep(_SETTLE_SECONDS)
        now = pagetables_bytes()
        if now >= last:
            return now
        last = now
    return last


def tlb_shootdowns() -> int:
    """TLB shootdown interrupts so far on all CPUs: the TLB line of /proc/interrupts."""
    for line in Path("/proc/interrupts").read_text(encoding="utf-8").splitlines():
        name, _, counts = line.strip().partition(":")
        if name == "TLB":
            return sum(int(word) for word in counts.split() if word.isdigit())
    return 0
