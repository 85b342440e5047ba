# SPDX-License-Identifier: MIT
"""`pgtable-cleanup lab`: runs commands in a guest with one of Debian's kernels."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console
from rich.table import Table

from cleanup.commands import Failure
from cleanup.commands._output import print_document, print_message
from cleanup.commands._params import size_in
from cleanup.commands._stop import unwind_when_stopped
from cleanup.lab import (
    DEFAULT,
    SOURCES,
    Guest,
    GuestResult,
    KernelNotServed,
    LabError,
    Machine,
    boot,
    get_debug_kernel,
    get_kernel,
    kernels,
    machine,
)
from cleanup.lab.guest import DEFAULT_TIMEOUT
from cleanup.lab.progress import on_stderr
from cleanup.units import format_size


class _NotServed(Failure):
    """Debian no longer serves the kernel. Callers know by the exit code, and skip what needs it."""

    exit_code = os.EX_UNAVAILABLE


def _kernel_name(name: str) -> str:
    try:
        kernels.check_name(name)
    except LabError as error:
        raise click.BadParameter(str(error)) from error
    return name


# A stock Linux 7.3 runs out of 128 MiB as it boots, and with 10 MiB its console stays empty.
LEAST_MEMORY = 256 << 20

_whole_mebibytes = size_in(machine.MEBIBYTE, "QEMU takes whole MiB")


def size(text: str) -> str:
    """Return a size of memory or of a disk as a Machine takes it, in whole MiB."""
    return format_size(_whole_mebibytes(text))


def memory(text: str) -> str:
    """Return a size of memory as `size` does, if a guest can boot in that much."""
    number = _whole_mebibytes(text)
    if number < LEAST_MEMORY:
        least = format_size(LEAST_MEMORY)
        raise click.BadParameter(f"{text}: a guest needs more to boot: give {least} or more")
    return format_size(number)


def _arguments(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


def _guest_parameters() -> list[click.Parameter]:
    """Return a guest's options; those of its hardware have the names of a Machine's fields."""
    return [
        click.Option(
            ["--kernel"],
            type=_kernel_name,
            default=DEFAULT,
            show_default=True,
            metavar=f"{'|'.join(SOURCES)}|PATH",
            help="Debian's newest of that line, or the directory of one's extracted packages.",
        ),
        click.Option(
            ["--debug", "build"],
            flag_value="debug",
            help="That kernel rebuilt with KASAN, lockdep and every check of page tables: some "
            "ten minutes the first time.",
        ),
        click.Option(
            ["--kcsan", "build"],
            flag_value="kcsan",
            help="That kernel rebuilt with KCSAN, which looks for data races.",
        ),
        click.Option(["--refresh"], is_flag=True, help="Look for a newer release of the kernel."),
        click.Option(["--memory"], type=memory, default="2g", show_default=True),
        click.Option(["--cpu"], default="max", show_default=True, help="QEMU's name of the CPU."),
        click.Option(["--cpus"], type=click.IntRange(1, 64), default=2, show_default=True),
        click.Option(["--disk"], type=size, help="An empty ext4 of that size."),
        click.Option(
            ["--numa"],
            type=click.IntRange(1, 8),
            default=1,
            show_default=True,
            help="NUMA nodes that share the memory and the CPUs.",
        ),
        click.Option(["--append"], default="", metavar="ARGS", help="More for the kernel."),
        click.Option(
            ["--icount"],
            is_flag=True,
            help="The guest's clock counts instructions, one a nanosecond: noise-free costs.",
        ),
        click.Option(
            ["--no-module", "module"],
            flag_value=False,
            default=True,
            type=bool,
            help="Don't load the module.",
        ),
        click.Option(
            ["--module-args"], type=_arguments, default="", metavar="ARGS", help="For the module."
        ),
        click.Option(
            ["--results"],
            type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
            metavar="DIR",
            help="A directory that the guest can write to.",
        ),
    ]


@click.group()
def lab() -> None:
    """Boot one of Debian's kernels in QEMU, with the module.

    The guest sees this machine's files, read-only, and runs as root, with a /tmp and a /run of its
    own.  In its environment, PGTABLE_CLEANUP_RESULTS names the directory of --results and
    PGTABLE_CLEANUP_SCRATCH the file system of --disk.
    """
    unwind_when_stopped()


# What follows CMD is CMD's, whether or not it looks like an option.
@lab.command("run", params=_guest_parameters(), context_settings={"allow_interspersed_args": False})
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=DEFAULT_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="Give up on CMD after that time.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
@click.argument("command", nargs=-1, required=True, metavar="[--] CMD...")
@click.pass_context
def run_command(
    context: click.Context,
    /,
    as_json: bool,
    timeout: float,
    command: tuple[str, ...],
    results: Path | None,
    **options: Any,  # noqa: ANN401 -- those of `_boot`
) -> None:
    """Run CMD in the guest, with its output and exit code.

    Fails as well if the guest's kernel panics, hangs, or reports a bug in its log.  The exit code
    is 69 if Debian does not serve the kernel any more and it was not downloaded before.
    """
    with _boot(results, **options) as guest:
        result = guest.run(
            command,
            timeout=timeout,
            results=results,
            on_stdout=None if as_json else _passes_to(sys.stdout.buffer),
            on_stderr=None if as_json else _passes_to(sys.stderr.buffer),
        )
    if as_json:
        print_document(_document(result))
    if not result.clock_ok:
        print_message(
            f"the guest's clock counted {result.guest_seconds:.1f} s in {result.seconds:.1f} s: "
            "times taken in this run don't count, run it again"
        )
    context.exit(result.exit_code)


@lab.command("shell", params=_guest_parameters())
@click.pass_context
def shell(context: click.Context, /, results: Path | None, **options: Any) -> None:  # noqa: ANN401
    """Open a shell in the guest; `exit` leaves it, and Ctrl-a x kills the guest."""
    command = ["/bin/bash", "-i"] if shutil.which("/bin/bash") else ["/bin/sh", "-i"]
    with _boot(results, check_dmesg=False, interactive=True, **options) as guest:
        result = guest.run(command, timeout=float("inf"), results=results)
    context.exit(result.exit_code)


def _boot(
    results: Path | None,
    *,
    kernel: str,
    build: str | None,
    refresh: bool,
    check_dmesg: bool = True,
    interactive: bool = False,
    **hardware: Any,  # noqa: ANN401 -- the fields of a Machine
) -> Guest:
    """Boot the guest that the options ask for."""
    machine.qemu_version()  # Without QEMU, fail before anything is downloaded.
    progress = on_stderr()
    try:
        if build is None:
            found = get_kernel(kernel, progress=progress, refresh=refresh)
        else:
            found = get_debug_kernel(kernel, build, progress=progress, refresh=refresh)
    except KernelNotServed as error:
        raise _NotServed(str(error)) from error
    return boot(
        found,
        Machine(**hardware),
        writable=results,
        check_dmesg=check_dmesg,
        interactive=interactive,
        progress=progress,
    )


@lab.command("kernels")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def list_kernels(as_json: bool) -> None:
    """List the kernels that the lab gets from Debian, and which of them are here."""
    releases = {name: kernels.downloaded_release(name) for name in SOURCES}
    if as_json:
        found = [
            {"name": name, "suites": list(source.suites), "release": releases[name]}
            for name, source in SOURCES.items()
        ]
        print_document({"schema": 1, "default": DEFAULT, "kernels": found})
        return
    table = Table("kernel", "Debian's suites", "here", box=None)
    for name, source in SOURCES.items():
        table.add_row(name, ", ".join(source.suites), releases[name] or "not downloaded yet")
    Console(highlight=False, markup=False).print(table)


def _passes_to(stream: IO[bytes]) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        stream.write(data)
        stream.flush()

    return write


def _document(result: GuestResult) -> dict[str, Any]:
    return {
        "schema": 1,
        "exit_code": result.exit_code,
        "kernel": result.kernel_release,
        "accelerator": result.accelerator,
        "boot_seconds": result.boot_seconds,
        "seconds": result.seconds,
        "guest_seconds": result.guest_seconds,
        "clock_ok": result.clock_ok,
        "stdout": result.stdout.decode(errors="replace"),
        "stderr": result.stderr.decode(errors="replace"),
        "console": result.console,
    }
