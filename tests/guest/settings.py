# SPDX-License-Identifier: MIT
"""The kernel's settings, changed for a test."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ZRAM = Path("/sys/block/zram0")


@contextmanager
def setting(path: Path, value: str) -> Iterator[None]:
    """Give a setting of the kernel another value, and at the end the old one back."""
    before = path.read_text()
    path.write_text(value)
    try:
        yield
    finally:
        path.write_text(before)


def swap_on_zram(size: str) -> None:
    """Swap to a device in the guest's memory from now on."""
    subprocess.run(["modprobe", "zram"], check=True)
    (ZRAM / "disksize").write_text(size)
    subprocess.run(["mkswap", "/dev/zram0"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["swapon", "/dev/zram0"], check=True)


@contextmanager
def zram_swap(size: str) -> Iterator[None]:
    """Swap to a device in the guest's memory until the end of the context."""
    swap_on_zram(size)
    try:
        yield
    finally:
        subprocess.run(["swapoff", "/dev/zram0"], check=True)
        (ZRAM / "reset").write_text("1")


@contextmanager
def one_cpu() -> Iterator[None]:
    """Take all CPUs but one offline while the kernel changes its own code: under QEMU's TCG another
    CPU may still run into the temporary breakpoint there after the kernel has removed it.
    """
    others = list(Path("/sys/devices/system/cpu").glob("cpu[1-9]*/online"))
    for switch in others:
        switch.write_text("0")
    try:
        yield
    finally:
        for switch in others:
            switch.write_text("1")
