# SPDX-License-Identifier: MIT
"""`pgtable-cleanup exec`: runs a program with the preload library in front of its allocator."""

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

import allocator_shim
from allocator_shim._figures import Conf, Stats
from allocator_shim.errors import LibraryMissing
from allocator_shim.preloading import (
    CONF,
    JEMALLOC,
    conf_in_force,
    environment,
    jemalloc_path,
    wrong_entries,
)
from cleanup import device
from cleanup.commands import Failure
from cleanup.commands._output import print_message, quiet_option
from cleanup.errors import CallFailed

PT_INTERP = 3


class CannotExec(Failure):
    """The program can't be run under the library."""

    exit_code = 126  # as env(1) exits if it can't run a program


class NotFound(CannotExec):
    """There is no such program."""

    exit_code = 127


def _print_library(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        click.echo(allocator_shim.shim_path())
        ctx.exit()


def _checked(_ctx: click.Context, _param: click.Parameter, conf: str) -> str:
    """Refuse a conf of which the library would ignore an entry."""
    for why in wrong_entries(conf):
        raise click.BadParameter(why)
    return conf


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.option("--jemalloc", is_flag=True, help=f"Also have CMD allocate by jemalloc ({JEMALLOC}).")
@click.option("--stats", is_flag=True, help="Have each process say at its end what was freed.")
@click.option(
    "--library",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_library,
    help="Print the path of the library, for LD_PRELOAD, and exit.",
)
@click.option(
    "--conf",
    metavar="KEY:VALUE,...",
    default="",
    callback=_checked,
    help=f"More keys for {CONF}, such as threshold:256,zero_pages:true,thread:true.",
)
@quiet_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD...")
def exec_(
    jemalloc: bool,
    stats: bool,
    conf: str,
    quiet: bool,
    command: Sequence[str],
) -> None:
    """Run CMD, and free the page tables that its releases of memory leave empty.

    CMD takes this command's place, so that signals and the exit code are its own. Its children
    inherit the library. A release of memory marks each unit of 2 MiB that it lies in. Once 64
    units are marked, or after a second, the next release calls the module once for all of them.

    Without the module CMD runs as it would by itself, and the library says so once. A program that
    allocates by jemalloc needs no module: under --conf hooks:jemalloc each of its page tables is
    freed with the last page that the table maps. --conf backend:null is a dry run, with the module
    and without: it counts what would be looked at, and frees nothing.

    The library sees the madvise(), munmap() and fallocate() of allocators such as jemalloc,
    tcmalloc and mimalloc, and of Java. It can't see what glibc's malloc and Go do inside:
    `reclaim PID` serves those. libpgtable_cleanup(7) has all keys of --conf, and what the library
    means for forks, threads, daemons and seccomp filters.
    """
    try:
        program = find(command[0])
        shim = str(allocator_shim.shim_path())
        libraries = [shim, *([jemalloc_path()] if jemalloc else [])]
        more = ["verbose:0"] * quiet + ["stats:exit"] * stats + [conf] * bool(conf)
        env = environment(os.environ, libraries, more)
        say_without_module(command[0], conf_in_force(env.get(CONF, "")), jemalloc=jemalloc)
        os.execve(program, list(command), env)  # noqa: S606 -- what the command is for
    except LibraryMissing as error:
        raise CannotExec(str(error)) from error
    except OSError as error:
        raise CannotExec(f"{command[0]}: {error.strerror}") from error


def say_without_module(name: str, conf: Conf, *, jemalloc: bool) -> None:
    """Where the module can't be called, print what works without it, and CMD's counts.

    The library counts nothing there, and does not know that --jemalloc was given. Where nothing is
    to be freed, or jemalloc's hooks free the tables, the library itself says what there is to say.
    """
    advise, count = jemalloc and conf.verbose > 0, conf.stats == "exit"
    if conf.backend == "null" or conf.hooks == "jemalloc" or not (advise or count):
        return
    try:
        with device.opened():
            return
    except CallFailed as error:
        why = error.message
    if advise:
        print_message(
            "--jemalloc alone frees no page tables without the module: add --conf hooks:jemalloc"
        )
    if count:
        counts = " ".join(f"{key}={number}" for key, number in asdict(Stats()).items())
        print_message(f"{Path(name).name}[{os.getpid()}]: {counts}: {why}")


def find(name: str) -> Path:
    """Return the program of that name, as a shell finds it, if the library can be loaded into it.

    Raises CannotExec.
    """
    found = shutil.which(name)
    if found is None:
        if Path(name).exists():
            raise CannotExec(f"{name}: permission denied, or no program")
        raise NotFound(f"{name}: no such program")
    path = Path(found)
    by_pid = "run it as it is, and clean it by `pgtable-cleanup reclaim PID`"
    about = path.stat()
    if (about.st_mode & stat.S_ISUID and about.st_uid != os.getuid()) or (
        about.st_mode & stat.S_ISGID and about.st_gid != os.getgid()
    ):
        raise CannotExec(f"{path} is setuid or setgid: the loader preloads nothing there; {by_pid}")
    if _is_static(path):
        raise CannotExec(
            f"{path} is linked statically: there is no loader to preload anything; {by_pid}"
        )
    return path


def _is_static(path: Path) -> bool:
    """Say whether a program is an ELF file without an interpreter. A script is not."""
    with path.open("rb") as file:
        header = file.read(64)
        if len(header) < 64 or not header.startswith(b"\x7fELF\x02"):
            return False
        offset = int.from_bytes(header[32:40], "little")
        size, number = (int.from_bytes(header[at : at + 2], "little") for at in (54, 56))
        file.seek(offset)
        table = file.read(size * number)
    types = [int.from_bytes(table[at : at + 4], "little") for at in range(0, len(table), size or 1)]
    return PT_INTERP not in types
