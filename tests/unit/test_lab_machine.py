# SPDX-License-Identifier: MIT
"""Tests of QEMU's command line, of a machine's sizes, and of the trial of KVM."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from cleanup.lab import LabError, machine
from cleanup.lab.kernels import Kernel

MACHINE = machine.Machine()
TCG = machine.Emulator((7, 2, 22), "tcg")
SOCKETS = {"console": 11, "control": 12, "stdout": 13, "stderr": 14, "log": 15}
CHANNELS = machine.Channels(initrd=10, sockets=SOCKETS)
KERNEL = Kernel("6.12", "6.12.1-amd64", Path("/k"), Path("/k/vmlinuz"), Path("/k/lib/modules/x"))


def line(
    hardware: machine.Machine = MACHINE,
    emulator: machine.Emulator = TCG,
    results: Path | None = None,
) -> str:
    return " ".join(machine.qemu_arguments(hardware, emulator, KERNEL, CHANNELS, results))


@pytest.mark.parametrize(("version", "works_around"), [((7, 2, 22), True), ((10, 0), False)])
def test_old_qemus_tcg_hides_cmpxchg16b_from_the_kernel(
    version: tuple[int, ...], works_around: bool
) -> None:
    assert ("clearcpuid=141" in line(emulator=machine.Emulator(version, "tcg"))) == works_around
    assert "clearcpuid" not in line(emulator=machine.Emulator(version, "kvm"))


def test_the_hosts_root_is_read_only() -> None:
    shares = [part for part in line(results=Path("/r")).split() if part.startswith("local,")]
    host, results = shares
    assert "path=/," in host
    assert "readonly=on" in host
    assert "path=/r," in results
    assert "readonly" not in results


def test_counting_instructions_takes_one_thread_and_a_clock_of_its_own() -> None:
    assert "-accel tcg,thread=multi" in line()
    counted = line(replace(MACHINE, icount=True))
    assert "-accel tcg,thread=single" in counted
    assert "-icount shift=0" in counted
    assert "tsc_early_khz=1000000" in counted


def test_an_oops_ends_the_run() -> None:
    assert "panic=-1 oops=panic" in line()
    assert "-no-reboot" in line()


def test_append_comes_last_so_that_it_overrides() -> None:
    appended = replace(MACHINE, append="quiet panic=5")
    words = machine.qemu_arguments(appended, TCG, KERNEL, CHANNELS, None)
    arguments = words[words.index("-append") + 1]
    assert arguments.endswith(" quiet panic=5")


def test_commas_in_paths_reach_qemu() -> None:
    assert "path=/a,,b," in line(results=Path("/a,b"))


def test_numa_nodes_share_memory_and_cpus() -> None:
    numa = line(replace(MACHINE, memory="1025M", cpus=3, numa=2))
    assert "memory-backend-ram,id=memory0,size=513M" in numa
    assert "memory-backend-ram,id=memory1,size=512M" in numa
    assert [f"cpu,node-id={node},socket-id={cpu}" in numa for cpu, node in enumerate((0, 1, 0))]


@pytest.mark.parametrize("size", ["lots", "0", "0g", "-1g", "1.5g", "1025k", "2000"])
def test_a_machine_with_a_bad_size_is_refused(size: str) -> None:
    for name in ("memory", "disk"):
        with pytest.raises(LabError, match=r"no size|whole MiB"):
            machine.Machine(**{name: size})  # type: ignore[arg-type]


@pytest.mark.parametrize("size", ["2G", "2048m", "2gib", "2147483648"])
def test_qemu_takes_memory_in_mebibytes_however_it_was_written(size: str) -> None:
    written = machine.Machine(memory=size)
    assert written == MACHINE
    assert " -m 2048M " in line(written)


def test_equal_machines_are_one_key() -> None:
    assert len({machine.Machine(cpus=3), machine.Machine(cpus=3), machine.Machine()}) == 2


def test_a_machine_in_short_says_what_is_not_as_usual() -> None:
    assert str(MACHINE) == "2g, 2 CPUs"
    assert str(machine.Machine(cpus=4, append="pti=on")) == "2g, 4 CPUs, append=pti=on"


def test_no_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="install qemu-system-x86"):
        machine.qemu_version()


@pytest.fixture
def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a script in place of QEMU, for a test to write, on a host that seems to have KVM."""
    qemu = tmp_path / machine.QEMU
    qemu.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(machine, "KVM_MODULES", ["kernel"])  # /sys/module/kernel always exists.
    monkeypatch.setattr(machine, "KVM_PROBE_SECONDS", 0.5)
    return qemu


@pytest.mark.parametrize(
    ("does", "expected"),
    [
        ("echo Linux version 6.12", "kvm"),
        ("echo Linux version 6.12; exit 1", "tcg"),
        ("echo booting", "tcg"),
        ("echo Linux version 6.12; exec sleep 5", "tcg"),
    ],
)
def test_kvm_is_tried_with_the_very_kernel(fake_qemu: Path, does: str, expected: str) -> None:
    fake_qemu.write_text(f"#!/bin/sh\n{does}\n")
    assert machine.accelerator(KERNEL, (10,)) == expected
    # The verdict is cached, so that this QEMU is not started again.
    fake_qemu.unlink()
    assert machine.accelerator(KERNEL, (10,)) == expected


def test_kvm_without_its_module_is_not_tried(
    fake_qemu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_qemu.unlink()
    monkeypatch.setattr(machine, "KVM_MODULES", ["no_such_module"])
    assert machine.accelerator(KERNEL, (10,)) == "tcg"
