# SPDX-License-Identifier: MIT
"""Helpers that run Python programs with libpgtable_cleanup.so preloaded, and read its output."""

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import _libc

import allocator_shim

SHIM = str(allocator_shim.shim_path())
PRELUDE = """\
import os, sys, time
import mmap as m
import _libc as c
UNIT = 2 << 20
RW, ANON, SHARED, FIXED = 3, m.MAP_PRIVATE | m.MAP_ANONYMOUS | 0x4000, m.MAP_SHARED, 16
DONTNEED, FREE, REMOVE, PAGEOUT, CLEANUP = 4, 8, 9, 21, 0x50544331
def area(units, flags=ANON, fd=-1):
    base = c.mmap(0, (units + 1) * UNIT, RW, flags, fd)
    return base if fd >= 0 else base + -base % UNIT
"""


def environment(conf: str, *allocators: str, **more: str) -> dict[str, str]:
    """Return variables that preload the library, and behind it any `allocators`."""
    return {
        "LD_PRELOAD": " ".join([SHIM, *allocators]),
        "PGTABLE_CLEANUP_CONF": conf,
        **more,
    }


def run(
    program: str,
    conf: str = "backend:null,stats:exit",
    *,
    preload: bool = True,
    allocator: str = "",
    malloc_conf: str = "thp:never",
    before_exec: Callable[[], None] | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a Python program, with the library and maybe an allocator preloaded."""
    env = {"LD_PRELOAD": f"{SHIM} {allocator}", "PGTABLE_CLEANUP_CONF": conf} if preload else {}
    if allocator:
        # Huge pages have no page tables.
        env |= {"MALLOC_CONF": malloc_conf, "PYTHONMALLOC": "malloc"}
    ended = subprocess.run(
        [sys.executable, "-I", "-c", start() + PRELUDE + textwrap.dedent(program)],
        env=env,
        preexec_fn=before_exec,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, f"exit {ended.returncode}:\n{ended.stdout}{ended.stderr}"
    return ended


def start() -> str:
    """Return a line of Python that lets a program import the tests' module _libc."""
    return f"import sys; sys.path.insert(0, {str(Path(_libc.__file__).parent)!r})\n"


def stats(text: str) -> list[dict[str, int]]:
    """Return the statistics that each process printed at its end, the first to end first."""
    return [
        {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)}
        for line in text.splitlines()
        if re.match(r"pgtable-cleanup: .*\[\d+\]: ", line)
    ]
