# SPDX-License-Identifier: MIT
"""The tier that runs inside the guest, on each kernel, with the module loaded."""

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
    """Room in the heaps of Python and of libc, for what a test makes meanwhile.

    Heaps that grow take page tables: now and then one or two more than a test accounts for, in the
    process that it looks at.
    """
    objects = [bytes(400) for _ in range(20_000)] + [bytes(4000) for _ in range(1000)]
    # Some everywhere, and the last: what lies between them is not given back to the kernel.
    kept = objects[::100] + objects[-1:]
    del objects
    yield
    del kept


@pytest.fixture(autouse=True)
def clean_log() -> Iterator[None]:
    """The dmesg gate: whatever a test shows, the kernel must not have complained meanwhile."""
    mark = Mark()
    try:
        yield
        assert mark.reports() == []
    finally:
        mark.close()


@pytest.fixture(scope="session")
def series() -> str:
    """The running kernel's series, such as "6.12"."""
    return SERIES


@pytest.fixture
def swap() -> Iterator[None]:
    """A swap device in the guest's memory."""
    with zram_swap("64M"):
        yield


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A memory cgroup, that all processes must have left at the end."""
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
    """A directory on an ext4 of the guest's own."""
    where = os.environ.get("PGTABLE_CLEANUP_SCRATCH")
    assert where, "run the guest tier with --disk"
    return Path(where)


@pytest.fixture
def kvm() -> Iterator[int]:
    """/dev/kvm of the guest: an emulated CPU has SVM, and KVM registers an mmu notifier.

    A first and a last virtual machine have the kernel patch its scheduler.
    """
    with one_cpu():
        subprocess.run(["modprobe", "kvm_amd"], check=True)
        fd = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
        yield fd
        os.close(fd)
