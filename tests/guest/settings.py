# SPDX-License-Identifier: MIT
"""The kernel's settings, changed for a test."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ZRAM = Path("/sys/block/zram0")


@contextmanager
def setting(path: Path, value: str) -> Iterator[None]:
    """Another value of a kernel's setting."""
    before = path.read_text()
    path.write_text(value)
    try:
        yield
    finally:
        path.write_text(before)


def swap_on_zram(size: str) -> None:
    """Have a swap device in the guest's memory from now on."""
    subprocess.run(["modprobe", "zram"], check=True)
    (ZRAM / "disksize").write_text(size)
    subprocess.run(["mkswap", "/dev/zram0"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["swapon", "/dev/zram0"], check=True)


@contextmanager
def zram_swap(size: str) -> Iterator[None]:
    """A swap device in the guest's memory."""
    swap_on_zram(size)
    try:
        yield
    finally:
        subprocess.run(["swapoff", "/dev/zram0"], check=True)
        (ZRAM / "reset").write_text("1")
