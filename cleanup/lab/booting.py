# SPDX-License-Identifier: MIT
"""Boots a kernel on a virtual machine, which gives a guest that waits for commands."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from cleanup.lab import initramfs
from cleanup.lab.build import build_module
from cleanup.lab.buildroot import get_build_root
from cleanup.lab.cache import cache_dir
from cleanup.lab.errors import LabError
from cleanup.lab.guest import Guest
from cleanup.lab.kernels import DEFAULT, Kernel, get_kernel
from cleanup.lab.machine import Emulator, Machine, accelerator, qemu_version
from cleanup.lab.progress import Progress, Silent

# A boot that failed by bad luck, as `Guest.unlucky` tells, is tried again.
BOOT_TRIES = 3
# The directory that holds the Python packages, and in a checkout the build directory, too.
CHECKOUT = Path(__file__).parents[2]
# This environment variable may name a file, to which each boot then adds a line.
BOOT_LOG = "PGTABLE_CLEANUP_BOOT_LOG"


def boot(
    kernel: str | Kernel = DEFAULT,
    machine: Machine | None = None,
    *,
    visible: Sequence[Path] = (),
    writable: Path | None = None,
    check_dmesg: bool = True,
    interactive: bool = False,
    progress: Progress | None = None,
) -> Guest:
    """Boot a kernel on a virtual machine, and return the guest, which waits for commands.

    ::

        with lab.boot("6.12", lab.Machine(cpus=4)) as guest:
            assert guest.run(["nproc"]).stdout == b"4\\n"

    The guest sees the host's root, read-only.  /tmp and /run are the guest's own, but it sees the
    working directory, the Python environment, the checkout, the lab's cache and ``visible`` even
    where they lie there.  Of a file that the host changes meanwhile, it may see the old content.
    ``writable`` is a directory of the host below which commands can write: see `Guest.run`.

    With ``check_dmesg`` (the default), a boot or a command fails if the kernel logs a bug
    meanwhile.  With ``interactive``, the first command has this process's terminal.

    Raises LabError if there is no such kernel, the module can't be built or is refused, or the
    guest does not become ready; KernelReportError if its kernel logs a bug.
    """
    machine = machine or Machine()
    progress = progress or Silent()
    version = qemu_version()
    if writable is not None and not writable.is_dir():
        raise LabError(f"{writable} is no directory: make it first, the results go there")
    if isinstance(kernel, str):
        kernel = get_kernel(kernel, progress=progress)
    contents = _contents(kernel, machine, visible, writable, interactive, progress)
    used = "tcg" if machine.icount else accelerator(kernel, version)
    for tries_left in reversed(range(BOOT_TRIES)):
        guest = Guest(
            kernel,
            machine,
            Emulator(version, used),
            writable=writable and writable.resolve(),
            check_dmesg=check_dmesg,
        )
        try:
            guest.start(contents, progress)
        except BaseException as error:
            guest.end("it did not boot")
            _log_boot(guest, "failed")
            if not (isinstance(error, LabError) and tries_left and used == "tcg" and guest.unlucky):
                raise
        else:
            _log_boot(guest, "booted")
            return guest
        with progress.step("a guest that tripped, hung or crashed while it booted boots once more"):
            pass
    raise AssertionError("the last try returns or raises")


def _contents(
    kernel: Kernel,
    machine: Machine,
    visible: Sequence[Path],
    writable: Path | None,
    interactive: bool,
    progress: Progress,
) -> initramfs.Contents:
    """Fetch and build the parts of the guest's initramfs."""
    root = get_build_root(progress=progress)
    module = build_module(kernel, progress=progress) if machine.module is True else machine.module
    return initramfs.Contents(
        kernel=kernel,
        busybox=root.busybox,
        module=module or None,
        module_args=machine.module_args,
        visible=[
            Path.cwd(),
            Path(sys.prefix),
            Path(sys.base_prefix),
            CHECKOUT,
            cache_dir(),
            *visible,
        ],
        disk=machine.disk is not None,
        results=writable is not None,
        shell_size=shutil.get_terminal_size()[::-1] if interactive else None,
    )


def _log_boot(guest: Guest, outcome: str) -> None:
    """Add a line on this boot to the file that BOOT_LOG names, if it names one."""
    if file := os.environ.get(BOOT_LOG):
        seconds = f"{guest.boot_seconds:.1f} s"
        with Path(file).open("a") as log:
            log.write(f"{guest.kernel.release}: {outcome} in {seconds}: {guest.machine}\n")
