# SPDX-License-Identifier: MIT
"""The kernel's settings, changed for a test."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def setting(path: Path, value: str) -> Iterator[None]:
    """Another value of a kernel's setting."""
    before = path.read_text()
    path.write_text(value)
    try:
        yield
    finally:
        path.write_text(before)


@contextmanager
def zram_swap(size: str) -> Iterator[None]:
    """A swap device in the guest's memory."""
    subprocess.run(["modprobe", "zram"], check=True)
    device = Path("/sys/block/zram0")
    (device / "disksize").write_text(size)
    subprocess.run(["mkswap", "/dev/zram0"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["swapon", "/dev/zram0"], check=True)
    try:
        yield
    finally:
        subprocess.run(["swapoff", "/dev/zram0"], check=True)
        (device / "reset").write_text("1")
