# SPDX-License-Identifier: MIT
"""Helpers to start real programs with the library preloaded before their allocator."""

import os
import platform
from pathlib import Path

import preloaded
from cleanup.lab.packages import Apt
from cleanup.lab.progress import on_stderr


def environment(conf: str, *allocators: str, **more: str) -> dict[str, str]:
    """Return this process's environment with the variables that preload the library."""
    return {**os.environ, **preloaded.environment(conf, *allocators, **more)}


def unpacked(package: str, tree: Path) -> Path:
    """Unpack a Debian package; installing some packages would start a daemon."""
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    progress = on_stderr()
    with Apt.locked([suite], progress) as apt:
        wanted = [one for one in apt.resolve(suite, [package]) if one.name == package]
        apt.unpack(package, wanted, tree)
    return tree
