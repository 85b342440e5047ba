# SPDX-License-Identifier: MIT
"""Real servers, started with the library before their allocator."""

import os
import platform
from pathlib import Path

import preloaded
from cleanup.lab.packages import Apt
from cleanup.lab.progress import on_stderr


def environment(conf: str, *allocators: str, **more: str) -> dict[str, str]:
    """This process's, and what `preloaded` adds."""
    return {**os.environ, **preloaded.environment(conf, *allocators, **more)}


def unpacked(package: str, tree: Path) -> Path:
    """A Debian package's files, without installing it: some start a daemon."""
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    progress = on_stderr()
    with Apt.locked([suite], progress) as apt:
        wanted = [one for one in apt.resolve(suite, [package]) if one.name == package]
        apt.unpack(package, wanted, tree)
    return tree
