# SPDX-License-Identifier: MIT
"""Tests of what `HostKernel` concludes from the files of a host, on made-up hosts."""

from dataclasses import replace
from pathlib import Path

import pytest

from cleanup.host import HostKernel

RELEASE = "6.12.117+deb13-amd64"


@pytest.fixture
def host(tmp_path: Path) -> HostKernel:
    """Return a host on which nothing keeps the module from being built and loaded."""
    files = {
        "proc/modules": "",
        "proc/sys/kernel/modules_disabled": "0\n",
        "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu vme\n",
        "proc/self/status": "Name:\tx\nCapEff:\t000001ffffffffff\n",
        "sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
        "sys/module/module/parameters/sig_enforce": "N\n",
        f"lib/modules/{RELEASE}/build/Makefile": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    version = "#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-01-01)"
    return HostKernel(RELEASE, version, "x86_64", tmp_path)


def test_nothing_in_the_way(host: HostKernel) -> None:
    assert not list(host.obstacles())


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("proc/sys/kernel/modules_disabled", "1\n", "kernel.modules_disabled is 1"),
        ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n", "lockdown"),
        ("sys/module/module/parameters/sig_enforce", "Y\n", "signed modules only"),
        ("proc/self/status", "CapEff:\t00000000a80425fb\n", "CAP_SYS_MODULE"),
    ],
)
def test_one_thing_in_the_way(host: HostKernel, file: str, text: str, message: str) -> None:
    (host.root / file).write_text(text)
    (obstacle,) = host.obstacles()
    assert message in obstacle


def test_no_modules_at_all(host: HostKernel) -> None:
    (host.root / "proc/modules").unlink()
    (obstacle,) = host.obstacles()
    assert "/proc/modules" in obstacle


def test_no_headers(host: HostKernel) -> None:
    (host.root / f"lib/modules/{RELEASE}/build/Makefile").unlink()
    (host.root / f"lib/modules/{RELEASE}/build").rmdir()
    (obstacle,) = host.obstacles()
    assert f"linux-headers-{RELEASE}" in obstacle


@pytest.mark.parametrize(
    ("release", "version", "machine", "proved"),
    [
        ("6.1.0-50-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1", "x86_64", True),
        ("7.3.4+deb13-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 7.3.4-1~bpo13+1", "x86_64", True),
        ("6.12.9-pgtable-cleanup-debug", "#1 SMP PREEMPT", "x86_64", True),
        ("6.12.117+deb13-cloud-amd64", "#1 SMP Debian 6.12.117-1", "x86_64", False),
        ("6.12.117+deb13-rt-amd64", "#1 SMP PREEMPT_RT Debian 6.12.117-1", "x86_64", False),
        ("6.12.117+deb13-arm64", "#1 SMP Debian 6.12.117-1", "aarch64", False),
        ("6.11.4-amd64", "#1 SMP Debian 6.11.4-1", "x86_64", False),
        ("6.12.0-55.el10.x86_64", "#1 SMP PREEMPT_DYNAMIC", "x86_64", False),
    ],
)
def test_proved_kernels(
    host: HostKernel, release: str, version: str, machine: str, proved: bool
) -> None:
    kernel = replace(host, release=release, version=version, machine=machine)
    assert kernel.is_proved() == proved
    assert any("refuse to load" in obstacle for obstacle in kernel.obstacles()) != proved


def test_paging_levels(host: HostKernel) -> None:
    assert host.paging_levels() == 4
    (host.root / "proc/cpuinfo").write_text("flags : fpu la57 vme\n")
    assert host.paging_levels() == 5
    (host.root / "proc/cpuinfo").write_text("processor : 0\n")
    assert host.paging_levels() is None
