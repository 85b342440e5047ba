# SPDX-License-Identifier: MIT
"""Fixtures of the tests that run inside the guest, on each kernel, with the module loaded."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleanup.lab.dmesg import Mark
from guest.settings import one_cpu, zram_swap

SERIES = ".".join(os.uname().release.split(".")[:2])


@pytest.fixture(scope="session", autouse=True)
def room_for_objects() -> Iterator[None]:
    """Make room in the heaps of Python and of libc for the objects that the tests make.

    A heap that grows takes page tables: now and then one or two more than a test accounts for, in
    the process whose tables it counts.
    """
    objects = [bytes(400) for _ in range(20_000)] + [bytes(4000) for _ in range(1000)]
    # Keep some objects: the heap can't give the room between them back to the kernel.
    kept = objects[::100] + objects[-1:]
    del objects
    yield
    del kept


@pytest.fixture(autouse=True)
def clean_log() -> Iterator[None]:
    """Fail a test, whatever its result, if the kernel's log complained while it ran."""
    mark = Mark()
    try:
        yield
        assert mark.reports() == []
    finally:
        mark.close()


@pytest.fixture(scope="session")
def series() -> str:
    """Return the running kernel's series, such as "6.12"."""
    return SERIES


@pytest.fixture
def swap() -> Iterator[None]:
    """Swap to a device in the guest's memory."""
    with zram_swap("64M"):
        yield


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """Make a memory cgroup, which all processes must have left at the end."""
    root = Path("/sys/fs/cgroup")
    (root / "cgroup.subtree_control").write_text("+memory")
    made = root / "tests"
    made.mkdir()
    try:
        yield made
    finally:
        made.rmdir()


@pytest.fixture
def scratch() -> Path:
    """Return a directory on the guest's own ext4."""
    where = os.environ.get("PGTABLE_CLEANUP_SCRATCH")
    assert where, "run the guest tier with --disk"
    return Path(where)


@pytest.fixture
def kvm() -> Iterator[int]:
    """Open the guest's /dev/kvm: a process with a virtual machine has an mmu notifier.

    QEMU's CPU has SVM, which kvm_amd needs.  The kernel patches its own code when the first virtual
    machine begins, and when the last one ends.
    """
    with one_cpu():
        subprocess.run(["modprobe", "kvm_amd"], check=True)
        fd = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
        yield fd
        os.close(fd)
