# SPDX-License-Identifier: MIT
"""The host's programs that the lab starts; tools/system-packages.sh lists their packages."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cleanup.lab.errors import LabError

PACKAGES = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "bwrap": "bubblewrap",
    "dpkg-deb": "dpkg",
    "mkfs.ext4": "e2fsprogs",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
}


def program(name: str) -> str:
    """Return the path of one of PACKAGES' programs.  Raises LabError if it is not installed."""
    # Debian keeps some of these programs in directories that only root's PATH names.
    search = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    path = shutil.which(name, path=search)
    if path is None:
        raise LabError(f"{name} not found: install {PACKAGES[name]}")
    return path


def dies_with_us(name: str, *arguments: str | Path) -> list[str | Path]:
    """Return a command line for a program that is killed when the thread that starts it ends.

    The thread must belong to this process.
    """
    # The kernel kills the program only once setpriv has asked for that.  If this process ended
    # before, the program has another parent by now, and does not start.
    unless_orphaned = ["/bin/sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid())]
    command = [*unless_orphaned, program(name), *arguments]
    return [program("setpriv"), "--pdeathsig", "KILL", "--", *command]


def run(name: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401
    """Run a program to its end, in the C locale; `options` are those of subprocess.run."""
    return subprocess.run(
        dies_with_us(name, *arguments),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
        **options,
    )


def follow(
    command: Sequence[str | Path],
    on_line: Callable[[str], object],
    **options: Any,  # noqa: ANN401 -- those of subprocess.Popen
) -> int:
    """Run a command, hand on each line of its output as it comes, and return its exit code.

    The command is killed if `on_line` raises, or on Ctrl-C.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        **options,
    ) as process:
        try:
            for line in process.stdout or ():
                on_line(line)
        except BaseException:
            process.kill()
            raise
    return process.returncode
