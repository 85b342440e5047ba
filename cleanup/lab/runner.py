# SPDX-License-Identifier: MIT
"""One run: a kernel, a module, a command in the guest, and what came of it."""

import os
import secrets
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from cleanup.lab import dmesg, machine
from cleanup.lab.build import build_module
from cleanup.lab.buildroot import get_build_root
from cleanup.lab.errors import KernelReportError, LabError
from cleanup.lab.guest import RESULTS, SCRATCH, Guest
from cleanup.lab.kernels import DEFAULT, Kernel, get_kernel
from cleanup.lab.progress import Progress, Silent
from cleanup.lab.session import MOST_LINES, Output, Session, terminal_restored

DEFAULT_TIMEOUT = 900.0
# See Session.unlucky_boot().
BOOT_TRIES = 3
# The directory that holds the packages; a checkout has its build directory there, too.
CHECKOUT = Path(__file__).parents[2]
GUEST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class GuestResult:
    """What came of a run."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    console: str
    """The serial console: the kernel's warnings and worse."""
    dmesg: str
    """The kernel's whole log."""
    kernel_release: str
    accelerator: str
    """``tcg`` or ``kvm``"""
    boot_seconds: float
    """From QEMU's start to the command's, by the host's clock."""
    seconds: float
    """The command, by the host's clock."""
    guest_seconds: float
    """The command, by the guest's clock."""
    results: Path | None
    icount: bool = False
    """The guest's clock counted instructions."""

    @property
    def clock_ok(self) -> bool:
        """Whether times taken in the guest count: its clock went as fast as the host's.

        A clock that counts instructions is right whatever the host's says.
        """
        return self.icount or abs(self.guest_seconds - self.seconds) <= 0.5 + 0.05 * self.seconds


def run(
    command: Sequence[str],
    *,
    kernel: str | Kernel = DEFAULT,
    memory: str = "2G",
    cpu: str = "max",
    cpus: int = 2,
    disk: str | None = None,
    numa: int = 1,
    append: str = "",
    qemu_args: Sequence[str] = (),
    icount: bool = False,
    load_module: bool = True,
    module: Path | None = None,
    module_args: Sequence[str] = (),
    results: Path | None = None,
    env: Mapping[str, str] | None = None,
    visible: Sequence[Path] = (),
    timeout: float = DEFAULT_TIMEOUT,
    check_dmesg: bool = True,
    on_stdout: Output | None = None,
    on_stderr: Output | None = None,
    progress: Progress | None = None,
    interactive: bool = False,
) -> GuestResult:
    """Run a command as root in a virtual machine with that kernel and the host's files.

    The host's root is read-only there; ``results`` is a directory of the host that the command
    can write to, by the name in PGTABLE_CLEANUP_RESULTS.  ``memory`` and ``disk`` are sizes such
    as ``2G``; with ``disk`` an empty ext4 is mounted where PGTABLE_CLEANUP_SCRATCH says.  The
    module is built and loaded, with ``module_args``, unless ``load_module`` is false; ``module``
    is a .ko to load in its place.  ``env`` adds to the guest's environment.  /tmp and /run are
    the guest's own, but the working directory, the Python environment and ``visible`` are seen
    below them too.

    With ``icount`` the guest's clock counts instructions, one a nanosecond, under TCG even where
    KVM works: costs come out the same at every run, and the clock says nothing of time.  Each
    iteration of a ``rep`` counts as one; processors take turns, so one that spins slows the rest.

    ``timeout`` is in seconds, from the boot on.  ``on_stdout`` and ``on_stderr`` get the output
    as it comes.  With ``interactive`` the command has this process's terminal.

    Raises LabError if the run could not be: no package, no kernel, a module that is refused, a
    panic, an oops, a hang; KernelReportError if ``check_dmesg`` is true and the kernel logged a
    bug.  The command's own failure is in the result.
    """
    progress = progress or Silent()
    version = machine.qemu_version()
    disk_bytes = machine.size_in_bytes(disk) if disk else 0
    machine.size_in_bytes(memory)
    if results is not None and not results.is_dir():
        raise LabError(f"{results} is no directory: make it first, the results go there")
    if isinstance(kernel, str):
        kernel = get_kernel(kernel, progress=progress)
    root = get_build_root(progress=progress)
    if load_module and module is None:
        module = build_module(kernel, progress=progress)
    accelerator = "tcg" if icount else machine.accelerator(kernel, version)
    environment = _environment(accelerator, disk is not None, results is not None)
    if icount:
        environment["PGTABLE_CLEANUP_ICOUNT"] = "1"
    guest = Guest(
        kernel=kernel,
        busybox=root.busybox,
        command=command,
        cwd=Path.cwd(),
        environment=environment | dict(env or {}),
        token=secrets.token_hex(16),
        module=module if load_module else None,
        module_args=module_args,
        visible=[Path.cwd(), Path(sys.prefix), Path(sys.base_prefix), CHECKOUT, *visible],
        disk=disk is not None,
        results=results is not None,
        shell_size=shutil.get_terminal_size()[::-1] if interactive else None,
    )
    hardware = machine.Machine(
        memory=memory,
        cpu=cpu,
        cpus=cpus,
        numa=numa,
        append=append,
        accelerator=accelerator,
        qemu_version=version,
        qemu_args=qemu_args,
        icount=icount,
    )
    for tries_left in reversed(range(BOOT_TRIES)):
        terminal = terminal_restored() if interactive else nullcontext()
        with terminal, Session(guest, on_stdout, on_stderr) as session:
            session.start(hardware, disk_bytes, results)
            session.follow(timeout, progress)
            if not (tries_left and accelerator == "tcg" and session.unlucky_boot()):
                result = _result(session, accelerator, results, check_dmesg)
                return replace(result, icount=icount)
        with progress.step("a guest that tripped, hung or crashed while it booted boots once more"):
            pass
    raise AssertionError("the last try returns or raises")


def _environment(accelerator: str, disk: bool, results: bool) -> dict[str, str]:
    path = GUEST_PATH
    if sys.prefix != sys.base_prefix:
        path = f"{sys.prefix}/bin:{path}"
    environment = {
        "HOME": "/run/home",
        "LANG": "C.UTF-8",
        "LOGNAME": "root",
        "PATH": f"{path}:/run/lab/bin",
        "PGTABLE_CLEANUP_ACCELERATOR": accelerator,
        "PGTABLE_CLEANUP_LAB": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SHELL": "/bin/sh",
        "TERM": os.environ.get("TERM", "dumb"),
        "USER": "root",
    }
    if disk:
        environment["PGTABLE_CLEANUP_SCRATCH"] = SCRATCH
    if results:
        environment["PGTABLE_CLEANUP_RESULTS"] = RESULTS
    return environment


def _result(
    session: Session, accelerator: str, results: Path | None, check_dmesg: bool
) -> GuestResult:
    exit_code = session.command_exit_code()
    console = session.console.decode(errors="replace")
    log = session.log.text()
    if check_dmesg:
        _raise_reports(log)
        # The shutdown's, which came after the log.
        _raise_reports(console)
    return GuestResult(
        exit_code=exit_code,
        stdout=bytes(session.stdout.content),
        stderr=bytes(session.stderr.content),
        console=console,
        dmesg=log,
        kernel_release=session.guest.kernel.release,
        accelerator=accelerator,
        boot_seconds=session.times[1] - session.times[0],
        seconds=session.times[2] - session.times[1],
        guest_seconds=session.uptimes[1] - session.uptimes[0],
        results=results,
    )


def _raise_reports(log: str) -> None:
    found = dmesg.reports(log)
    if found:
        lines = [line.strip() for line in log.splitlines()]
        first = lines.index(found[0])
        shown = "\n".join(lines[first : first + MOST_LINES])
        raise KernelReportError(f"the guest's kernel reported a bug:\n{shown}", found)
