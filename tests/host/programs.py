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


def unpacked(package: str, tree: Path, suite: str | None = None, *, with_all: bool = False) -> Path:
    """Unpack a Debian package, of this host's release or another; installing might start a daemon.

    `with_all` unpacks all that it depends on, too.  Raises KernelNotServed where the mirror does
    not have that release.
    """
    suite = suite or platform.freedesktop_os_release()["VERSION_CODENAME"]
    progress = on_stderr()
    with Apt.locked([suite], progress) as apt:
        found = apt.resolve(suite, [package])
        apt.unpack(package, [one for one in found if with_all or one.name == package], tree)
    return tree
