# SPDX-License-Identifier: MIT
"""Settings of the guest that have its kernel work on memory by itself, and its modules."""

import os
import time
from pathlib import Path

from _raw import syscall

from cleanup import _uapi
from cleanup.lab.dmesg import Mark, races_of_the_kernel
from guest.settings import swap_on_zram

SYS_DELETE_MODULE, SYS_FINIT_MODULE = 176, 313

RACE_SECONDS = 60

SETTINGS = {
    "ksm/run": "1",
    "ksm/sleep_millisecs": "20",
    "ksm/pages_to_scan": "500",
    "ksm/use_zero_pages": "1",
    "transparent_hugepage/enabled": "madvise",
    "transparent_hugepage/shmem_enabled": "advise",
    "transparent_hugepage/khugepaged/scan_sleep_millisecs": "50",
    "transparent_hugepage/khugepaged/alloc_sleep_millisecs": "1",
    "transparent_hugepage/khugepaged/pages_to_scan": "4096",
    "lru_gen/enabled": "7",
}


def prepare() -> None:
    """Add swap, and set KSM, khugepaged and MGLRU to work."""
    swap_on_zram("256M")
    for name, value in SETTINGS.items():
        Path("/sys/kernel/mm", name).write_text(value)


def watchpoints() -> int | None:
    """Return how many accesses KCSAN has watched for a race, or None on a kernel without it."""
    try:
        lines = Path("/sys/kernel/debug/kcsan").read_text().splitlines()
    except FileNotFoundError:
        return None
    found = dict(line.split(": ", 1) for line in lines if ": " in line)
    return int(found["setup_watchpoints"])


def finds_races(race: Path) -> bool:
    """Return whether KCSAN reports the race that tests/proof/modules/race makes on purpose."""
    mark = Mark()
    insert(race)
    end = time.monotonic() + RACE_SECONDS
    found = False
    while not found and time.monotonic() < end:
        time.sleep(0.1)
        found = any("race_writer" in each for each in races_of_the_kernel("\n".join(mark.lines())))
    remove("race")
    mark.close()
    return found


def insert(module: Path) -> None:
    """Load a module."""
    no_arguments = bytearray(1)
    with module.open("rb") as file:
        syscall(SYS_FINIT_MODULE, file.fileno(), _uapi.address_of(no_arguments), 0)


def remove(module: str) -> None:
    """Unload a module; raise BlockingIOError while it is in use."""
    name = bytearray(module.encode() + b"\0")
    syscall(SYS_DELETE_MODULE, _uapi.address_of(name), os.O_NONBLOCK)
