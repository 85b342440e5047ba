# SPDX-License-Identifier: MIT
"""`pgtable-cleanup exec`: a program with the preload library in front of its allocator."""

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

import click

import allocator_shim
from allocator_shim.errors import LibraryMissing
from allocator_shim.preloading import CONF, JEMALLOC, environment, jemalloc_path
from cleanup.errors import CleanupError

# As env(1) does: a program that can't be run, or found.
NOT_RUN, NOT_FOUND = 126, 127
PT_INTERP = 3


class CannotExec(CleanupError):
    """The program can't be run so; `code` is what to exit with."""

    def __init__(self, message: str, code: int = NOT_RUN) -> None:
        super().__init__(message)
        self.code = code


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.option("--jemalloc", is_flag=True, help=f"Have it allocate by jemalloc ({JEMALLOC}), too.")
@click.option("--stats", is_flag=True, help="Each process says at its end what was freed.")
@click.option(
    "--syscall", is_flag=True, help="See what it releases by syscall(), too; each of those pays."
)
@click.option(
    "--conf",
    metavar="KEY:VALUE,...",
    default="",
    help=f"More for {CONF}, such as threshold:256,zero_pages:true,thread:true.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD...")
def exec_(jemalloc: bool, stats: bool, syscall: bool, conf: str, command: Sequence[str]) -> None:
    """Run CMD so that page tables which its releases empty are freed.

    CMD takes this command's place, and its children inherit the library: signals and the exit code
    are its own. A release marks its 2 MiB unit; 64 units, or a second, make one call of the module.
    Without the module it runs as ever, and says so once; but with --conf hooks:jemalloc the page
    tables of a program that allocates by jemalloc go with their pages all the same.

    It sees the madvise(), munmap() and fallocate() of allocators such as jemalloc, tcmalloc and
    mimalloc. What glibc's malloc, Go and Java do inside can't be seen: `reclaim PID` serves those.
    """
    try:
        program = find(command[0])
        shim = str(allocator_shim.shim_path(syscall=syscall))
        libraries = [shim, *([jemalloc_path()] if jemalloc else [])]
        env = environment(os.environ, libraries, ["stats:exit"] * stats + [conf] * bool(conf))
        os.execve(program, list(command), env)  # noqa: S606 -- what the command is for
    except LibraryMissing as error:
        click.echo(f"pgtable-cleanup: {error}", err=True)
        raise SystemExit(NOT_RUN) from error
    except OSError as error:
        click.echo(f"pgtable-cleanup: {command[0]}: {error.strerror}", err=True)
        raise SystemExit(NOT_RUN) from error
    except CannotExec as error:
        click.echo(f"pgtable-cleanup: {error}", err=True)
        raise SystemExit(error.code) from error


def find(name: str) -> Path:
    """The program of that name, as a shell finds it, if the library can be loaded into it.

    Raises CannotExec.
    """
    found = shutil.which(name)
    if found is None:
        if Path(name).exists():
            raise CannotExec(f"{name}: permission denied, or no program")
        raise CannotExec(f"{name}: no such program", NOT_FOUND)
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
    """An ELF program without an interpreter; scripts have one of their own."""
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
