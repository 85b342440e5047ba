# SPDX-License-Identifier: MIT
"""The virtual machine: QEMU's command line, and whether KVM can be used."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from cleanup.lab import initramfs
from cleanup.lab.cache import cache_dir
from cleanup.lab.errors import LabError
from cleanup.lab.host import program, run
from cleanup.lab.kernels import Kernel
from cleanup.units import format_size, parse_size

QEMU = "qemu-system-x86_64"
# A stock kernel needs far less than this to print its first line under KVM, and to end.
KVM_PROBE_SECONDS = 6.0
KVM_MODULES = ("kvm_intel", "kvm_amd")

MEBIBYTE = 1 << 20

# With icount, the guest runs one instruction a nanosecond, and its TSC at 1 GHz.
ICOUNT_TSC_KHZ = 1_000_000

# The console shows all that is worse than a notice.  An oops or a finding of KASAN panics, and a
# panic ends the guest.  KCSAN, where it is built in, looks from the start.  no_timer_check: on a
# busy host QEMU's timer interrupts come late; the kernel takes them for missing, and may panic.
KERNEL_ARGUMENTS = (
    "console=ttyS0 loglevel=5 panic=-1 oops=panic kasan.fault=panic kcsan.early_enable=1 "
    "log_buf_len=8M no_timer_check"
)


@dataclass(frozen=True)
class Machine:
    """The virtual machine that a guest runs on; equal machines can share one guest.

    Raises LabError for an invalid size.
    """

    memory: str = "2g"
    """A size such as ``2g`` or ``512m``, in whole MiB."""
    cpu: str = "max"
    """QEMU's name of the CPU, with features: ``max,-la57`` has 4 levels of page tables."""
    cpus: int = 2
    disk: str | None = None
    """The size of an empty ext4, which is mounted where PGTABLE_CLEANUP_SCRATCH says."""
    numa: int = 1
    """NUMA nodes, which share the memory and the CPUs."""
    append: str = ""
    """More arguments for the kernel."""
    icount: bool = False
    """The guest's clock counts instructions, one a nanosecond: costs repeat exactly.

    Only TCG can do so, so KVM is not used.  The clock then says nothing of real time.  Each step
    of a ``rep`` counts as one.  Processors take turns, so that one that spins slows the rest.
    """
    module: bool | Path = True
    """Whether the module is built and loaded, or a .ko to load in its place."""
    module_args: tuple[str, ...] = ()
    """The parameters that the module is loaded with."""
    qemu_args: tuple[str, ...] = ()
    """More arguments for QEMU."""

    def __post_init__(self) -> None:
        """Refuse sizes that QEMU would not take, and write equal sizes alike (1024m as 1g)."""
        for name in ("memory", "disk"):
            if size := getattr(self, name):
                object.__setattr__(self, name, format_size(size_in_bytes(size)))

    def __str__(self) -> str:
        """Name the memory, the CPUs and every field that differs from its default."""
        more = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)[1:]
            if field.name != "cpus" and getattr(self, field.name) != field.default
        ]
        return ", ".join([self.memory, f"{self.cpus} CPUs", *more])


@dataclass(frozen=True)
class Emulator:
    """The QEMU on this host, and what runs the guest's instructions."""

    version: tuple[int, ...]
    accelerator: str
    """``tcg`` or ``kvm``"""


@dataclass(frozen=True)
class Channels:
    """Descriptors that QEMU inherits: files, and a socket for the console and for each port."""

    initrd: int
    sockets: Mapping[str, int]
    disk: int | None = None
    terminal: bool = False
    """The guest has an interactive console on QEMU's own stdin and stdout."""


def qemu_version() -> tuple[int, ...]:
    """Return QEMU's version.  Raises LabError if there is no QEMU."""
    said = run(QEMU, "--version").stdout
    found = re.search(r"version (\d+(?:\.\d+)*)", said)
    if found is None:
        raise LabError(f"{QEMU} --version gave no version: {said.strip()!r}")
    return tuple(int(part) for part in found[1].split("."))


def qemu_arguments(
    machine: Machine, emulator: Emulator, kernel: Kernel, channels: Channels, results: Path | None
) -> list[str]:
    """Return QEMU's arguments; ``results`` is the host's directory that the guest can write to."""
    line = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    line += ["-machine", "q35", "-cpu", machine.cpu, "-smp"]
    # A NUMA node takes whole sockets, so each CPU gets a socket of its own.
    line += [f"{machine.cpus},sockets={machine.cpus}" if machine.numa > 1 else str(machine.cpus)]
    line += ["-accel", _accelerator(machine, emulator), "-m"]
    line += [f"{size_in_bytes(machine.memory) // MEBIBYTE}M"]
    if machine.icount:
        # sleep=off: the clock jumps over idle time.
        line += ["-icount", "shift=0,sleep=off"]
    line += ["-kernel", str(kernel.vmlinuz), "-initrd", f"/proc/self/fd/{channels.initrd}"]
    line += ["-append", _kernel_arguments(machine, emulator)]
    line += _ports(channels)
    line += _share("host", Path("/"), ",readonly=on")
    if results is not None:
        line += _share("results", results, "")
    if channels.disk is not None:
        file = f"/proc/self/fd/{channels.disk}"
        line += ["-drive", f"file={file},if=none,id=disk,format=raw,cache=unsafe,discard=unmap"]
        line += ["-device", "virtio-blk-pci,drive=disk"]
    return [*line, *_numa(machine), *machine.qemu_args]


def _kernel_arguments(machine: Machine, emulator: Emulator) -> str:
    tcg = emulator.accelerator == "tcg"
    arguments = KERNEL_ARGUMENTS
    if tcg and emulator.version < (10,):
        # QEMU before 10 breaks the flags after cmpxchg16b, which the kernel's allocator uses.
        arguments += " clearcpuid=141"
    # The guest's TSC is the host's unless it counts instructions. The kernel is told its rate:
    # calibrating it goes wrong on a busy host.
    khz = ICOUNT_TSC_KHZ if machine.icount else host_tsc_khz()
    if tcg and khz is not None:
        arguments += f" tsc_early_khz={khz}"
    return f"{arguments} {machine.append}".strip()


def _ports(channels: Channels) -> list[str]:
    """Return the arguments for the serial console and the virtio-serial ports."""
    line = []
    for name, descriptor in channels.sockets.items():
        line += ["-chardev", f"socket,id={name},fd={descriptor}"]
    line += ["-serial", "chardev:console", "-device", "virtio-serial-pci"]
    if channels.terminal:
        line += ["-chardev", "stdio,id=terminal,signal=off,mux=on"]
        line += ["-device", "virtconsole,chardev=terminal,nr=0"]
    for name, number in initramfs.PORTS.items():
        line += ["-device", f"virtserialport,chardev={name},nr={number}"]
    return line


def _accelerator(machine: Machine, emulator: Emulator) -> str:
    if emulator.accelerator != "tcg":
        return emulator.accelerator
    # Instructions can be counted only where one thread runs all processors in turn.
    return f"tcg,thread={'single' if machine.icount else 'multi'}"


def _share(name: str, path: Path, options: str) -> list[str]:
    # A comma separates QEMU's options; a doubled comma stands for itself.
    shown = str(path).replace(",", ",,")
    backend = f"local,id={name},path={shown},security_model=none,multidevs=remap{options}"
    return ["-fsdev", backend, "-device", f"virtio-9p-pci,fsdev={name},mount_tag={name}"]


def _numa(machine: Machine) -> list[str]:
    """Return the arguments that deal memory and processors out evenly to the NUMA nodes."""
    if machine.numa == 1:
        return []
    mebibytes = size_in_bytes(machine.memory) // MEBIBYTE
    line = []
    for node in range(machine.numa):
        share = mebibytes // machine.numa + (node < mebibytes % machine.numa)
        line += ["-object", f"memory-backend-ram,id=memory{node},size={share}M"]
        line += ["-numa", f"node,nodeid={node},memdev=memory{node}"]
    for cpu in range(machine.cpus):
        line += ["-numa", f"cpu,node-id={cpu % machine.numa},socket-id={cpu}"]
    return line


def size_in_bytes(size: str) -> int:
    """Return a size of memory or of a disk in bytes; raises LabError unless it is in whole MiB."""
    try:
        number = parse_size(size)
    except ValueError as error:
        raise LabError(str(error)) from error
    if not number or number % MEBIBYTE:
        raise LabError(f"{size}: QEMU takes whole MiB: give a size such as 512m or 2g")
    return number


def host_tsc_khz() -> int | None:
    """Return the rate of the host's time stamp counter in kHz, or None if the host hides it.

    Without frequency scaling /proc/cpuinfo has the counter's rate; with it, the counter runs at
    the processor's rated frequency.
    """
    processor = Path("/sys/devices/system/cpu/cpu0")
    if not (processor / "cpufreq").exists():
        found = re.search(r"^cpu MHz\s*: ([0-9.]+)$", Path("/proc/cpuinfo").read_text(), re.M)
        return round(float(found[1]) * 1000) if found else None
    for file, factor in (("cpufreq/base_frequency", 1), ("acpi_cppc/nominal_freq", 1000)):
        try:
            return int((processor / file).read_text()) * factor
        except (OSError, ValueError):
            continue
    return None


def kvm_obstacle() -> str | None:
    """Return why KVM can't even be tried here, or None."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm is not there, or not open to this user"
    if not any(Path("/sys/module", module).exists() for module in KVM_MODULES):
        return f"/dev/kvm is there, but none of {', '.join(KVM_MODULES)} is"
    return None


def accelerator(kernel: Kernel, version: tuple[int, ...]) -> str:
    """Return ``kvm`` if this kernel boots under KVM here, else ``tcg``.

    A stock kernel may hang though /dev/kvm opens, so KVM is tried: once for each boot of the host,
    kernel and version of QEMU.
    """
    if kvm_obstacle():
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    numbers = ".".join(str(part) for part in version)
    verdicts = cache_dir() / "kvm"
    verdict = verdicts / f"{boot}-{kernel.release}-{numbers}"
    if not verdict.exists():
        verdicts.mkdir(exist_ok=True)
        new = verdict.with_name(f"{verdict.name}.{os.getpid()}")
        new.write_text("kvm" if _boots_under_kvm(kernel) else "tcg")
        new.rename(verdict)
    return verdict.read_text()


def _boots_under_kvm(kernel: Kernel) -> bool:
    """Say whether under KVM the kernel prints its first line, then ends by a panic (no root)."""
    line = [program(QEMU), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    line += ["-machine", "q35", "-cpu", "max", "-accel", "kvm", "-m", "512M", "-serial", "stdio"]
    line += ["-kernel", str(kernel.vmlinuz), "-append", "console=ttyS0 panic=-1"]
    try:
        done = subprocess.run(
            line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=KVM_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and b"Linux version" in done.stdout
