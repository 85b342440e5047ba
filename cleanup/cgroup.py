# SPDX-License-Identifier: MIT
"""Control groups of the unified hierarchy (cgroup v2): their processes and page tables."""

import errno
from pathlib import Path

import psutil

from cleanup.errors import CleanupError

# The kernel adds up memory.stat's per-CPU parts every 2 s, and sooner only after large changes.
LAZY_SECONDS = 2.1


def root() -> Path:
    """Where cgroup2 is mounted. Raises CleanupError if nowhere."""
    for mount in psutil.disk_partitions(all=True):
        if mount.fstype == "cgroup2":
            return Path(mount.mountpoint)
    raise CleanupError("cgroup2 is not mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup")


def find(name: str) -> Path:
    """The directory of a cgroup, by its path or by its name below the cgroup2 mount.

    Raises CleanupError if there is none, or if it is of cgroup v1.
    """
    path = Path(name)
    if not path.is_absolute():
        path = root() / path
    if not path.is_dir():
        raise CleanupError(
            f"{path}: no such cgroup: give a directory, or a name below the cgroup2 mount such as "
            "system.slice/cron.service"
        )
    if not (path / "cgroup.controllers").exists():
        raise CleanupError(f"{path}: not a cgroup2 directory: it has no cgroup.controllers")
    return path


def processes(directory: Path) -> set[int]:
    """The pids in a cgroup and all below it; cgroups removed meanwhile have none."""
    pids: set[int] = set()
    for file in (directory / "cgroup.procs", *directory.rglob("*/cgroup.procs")):
        try:
            pids.update(int(line) for line in file.read_text().split())
        except OSError as error:
            # ENODEV, ENOENT: removed. EOPNOTSUPP: a threaded cgroup, whose processes its
            # domain lists.
            if error.errno not in (errno.ENODEV, errno.ENOENT, errno.EOPNOTSUPP):
                raise CleanupError(f"{file}: {(error.strerror or 'unreadable').lower()}") from error
    # 0 stands for a process outside of our pid namespace.
    return pids - {0}


def pagetables_bytes(directory: Path) -> int | None:
    """Page tables charged to a cgroup and all below it; None without the memory controller.

    A table is charged where the process was when it got it: one that was moved here later left its
    tables there. Changes of some 256 kB per CPU and less may show only after LAZY_SECONDS.
    """
    try:
        lines = (directory / "memory.stat").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split() for line in lines)
    return int(fields["pagetables"]) if "pagetables" in fields else None
