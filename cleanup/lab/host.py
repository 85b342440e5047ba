# SPDX-License-Identifier: MIT
"""The host's programs that the lab starts; tools/system-packages.sh lists their packages."""

import os
import shutil
from pathlib import Path

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
    """The path of one of PACKAGES' programs; raises LabError if it is not installed."""
    # Debian keeps some of them where only root's PATH looks.
    search = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    path = shutil.which(name, path=search)
    if path is None:
        raise LabError(f"{name} not found: install {PACKAGES[name]}")
    return path


def dies_with_us(name: str, *arguments: str | Path) -> list[str | Path]:
    """A command line of that program that is killed when the thread that starts it ends."""
    return [program("setpriv"), "--pdeathsig", "KILL", "--", program(name), *arguments]
