# SPDX-License-Identifier: MIT
"""`pgtable-cleanup lab`: commands in a guest with one of Debian's kernels."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypedDict, TypeVar, Unpack

import click
from rich.console import Console
from rich.table import Table

from cleanup.commands import Failure
from cleanup.commands._params import Size
from cleanup.commands._stop import unwind_when_stopped
from cleanup.lab import (
    DEFAULT,
    SOURCES,
    Guest,
    GuestResult,
    Kernel,
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
from cleanup.lab.progress import Progress, on_stderr
from cleanup.units import format_size

Function = TypeVar("Function", bound=Callable[..., Any])


class _Options(TypedDict):
    kernel: str
    build: str | None
    refresh: bool
    memory: int
    cpu: str
    cpus: int
    disk: int | None
    numa: int
    append: str
    icount: bool
    no_module: bool
    module_args: str
    results: Path | None


class _NotServed(Failure):
    """Tells the caller by the exit code that what needs that kernel can be skipped."""

    exit_code = os.EX_UNAVAILABLE


# QEMU takes memory in whole MiB, and a disk may as well be.
_SIZE = Size(machine.MEBIBYTE, "QEMU takes whole MiB", machine.MEBIBYTE)


class _Kernel(click.ParamType[str]):
    name = "kernel"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:  # noqa: ANN401 -- click's signature
        try:
            kernels.check_name(value)
        except LabError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def _guest_options(function: Function) -> Function:
    for option in reversed(
        (
            click.option(
                "--kernel",
                type=_Kernel(),
                default=DEFAULT,
                show_default=True,
                metavar=f"{'|'.join(SOURCES)}|PATH",
                help="Debian's newest of that line, or the directory of one's extracted packages.",
            ),
            click.option(
                "--debug",
                "build",
                flag_value="debug",
                help="That kernel rebuilt with KASAN, lockdep and every check of page tables: some "
                "ten minutes the first time.",
            ),
            click.option(
                "--kcsan",
                "build",
                flag_value="kcsan",
                help="That kernel rebuilt with KCSAN, which looks for data races.",
            ),
            click.option("--refresh", is_flag=True, help="Look for a newer release of the kernel."),
            click.option("--memory", type=_SIZE, default="2g", show_default=True),
            click.option("--cpu", default="max", show_default=True, help="QEMU's name of the CPU."),
            click.option("--cpus", type=click.IntRange(1, 64), default=2, show_default=True),
            click.option("--disk", type=_SIZE, help="An empty ext4 of that size."),
            click.option(
                "--numa",
                type=click.IntRange(1, 8),
                default=1,
                show_default=True,
                help="NUMA nodes that share the memory and the CPUs.",
            ),
            click.option("--append", default="", metavar="ARGS", help="More for the kernel."),
            click.option(
                "--icount",
                is_flag=True,
                help="The guest's clock counts instructions, one a nanosecond: noise-free costs.",
            ),
            click.option("--no-module", is_flag=True, help="Don't load the module."),
            click.option(
                "--module-args", default="", metavar="ARGS", help="Parameters of the module."
            ),
            click.option(
                "--results",
                type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
                metavar="DIR",
                help="A directory that the guest can write to.",
            ),
        )
    ):
        function = option(function)
    return function


@click.group()
def lab() -> None:
    """Boot one of Debian's kernels in QEMU, with the module.

    The guest sees this machine's files, read-only, and runs as root, with a /tmp and a /run of its
    own.  In its environment, PGTABLE_CLEANUP_RESULTS names the directory of --results and
    PGTABLE_CLEANUP_SCRATCH the file system of --disk.
    """
    unwind_when_stopped()


# What follows CMD is CMD's, whether or not it looks like an option.
@lab.command("run", context_settings={"allow_interspersed_args": False})
@_guest_options
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
    **options: Unpack[_Options],
) -> None:
    """Run CMD in the guest, with its output and exit code.

    Fails as well if the guest's kernel panics, hangs, or reports a bug in its log.  The exit code
    is 69 if Debian does not serve the kernel any more and it was not downloaded before.
    """
    with _boot(options) as guest:
        result = guest.run(
            command,
            timeout=timeout,
            results=options["results"],
            on_stdout=None if as_json else _passes_to(sys.stdout.buffer),
            on_stderr=None if as_json else _passes_to(sys.stderr.buffer),
        )
    if as_json:
        click.echo(json.dumps(_document(result), indent=2))
    if not result.clock_ok:
        click.echo(
            f"pgtable-cleanup: the guest's clock counted {result.guest_seconds:.1f} s in "
            f"{result.seconds:.1f} s: times taken in this run don't count, run it again",
            err=True,
        )
    context.exit(result.exit_code)


@lab.command("shell")
@_guest_options
@click.pass_context
def shell(context: click.Context, /, **options: Unpack[_Options]) -> None:
    """Open a shell in the guest; `exit` ends it, and Ctrl-a x at once."""
    command = ["/bin/bash", "-i"] if shutil.which("/bin/bash") else ["/bin/sh", "-i"]
    with _boot(options, check_dmesg=False, interactive=True) as guest:
        result = guest.run(command, timeout=float("inf"), results=options["results"])
    context.exit(result.exit_code)


def _boot(options: _Options, *, check_dmesg: bool = True, interactive: bool = False) -> Guest:
    """Boot the guest that the options ask for."""
    machine.qemu_version()  # Before a download in vain.
    progress = on_stderr()
    return boot(
        _kernel(options, progress),
        Machine(
            memory=format_size(options["memory"]),
            cpu=options["cpu"],
            cpus=options["cpus"],
            disk=format_size(options["disk"]) if options["disk"] else None,
            numa=options["numa"],
            append=options["append"],
            icount=options["icount"],
            module=not options["no_module"],
            module_args=tuple(shlex.split(options["module_args"])),
        ),
        writable=options["results"],
        check_dmesg=check_dmesg,
        interactive=interactive,
        progress=progress,
    )


def _kernel(options: _Options, progress: Progress) -> Kernel:
    name, build, refresh = options["kernel"], options["build"], options["refresh"]
    try:
        if build is None:
            return get_kernel(name, progress=progress, refresh=refresh)
        return get_debug_kernel(name, build, progress=progress, refresh=refresh)
    except KernelNotServed as error:
        raise _NotServed(str(error)) from error


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
        click.echo(json.dumps({"schema": 1, "default": DEFAULT, "kernels": found}, indent=2))
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
