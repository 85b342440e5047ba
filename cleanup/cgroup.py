# SPDX-License-Identifier: MIT
"""Control groups of the unified hierarchy (cgroup v2): their processes and page tables."""

import errno
from pathlib import Path

import psutil

from cleanup.errors import CleanupError

# The kernel adds up memory.stat's per-CPU parts every 2 s, and sooner only after a large change.
LAZY_SECONDS = 2.1


def root() -> Path:
    """Return where cgroup2 is mounted. Raises CleanupError if it is mounted nowhere."""
    for mount in psutil.disk_partitions(all=True):
        if mount.fstype == "cgroup2":
            return Path(mount.mountpoint)
    raise CleanupError("cgroup2 is not mounted", hint="mount -t cgroup2 cgroup2 /sys/fs/cgroup")


def find(name: str) -> Path:
    """Return the directory of a cgroup, by its path or by its name below the cgroup2 mount.

    Raises CleanupError if there is none, or if it is of cgroup v1.
    """
    path = Path(name)
    if not path.is_absolute():
        path = root() / path
    if not path.is_dir():
        raise CleanupError(
            f"{path}: no such cgroup",
            hint="give a directory, or a name below the cgroup2 mount such as "
            "system.slice/cron.service",
        )
    if not (path / "cgroup.controllers").exists():
        raise CleanupError(f"{path}: not a cgroup2 directory: it has no cgroup.controllers")
    return path


def processes(directory: Path) -> set[int]:
    """Return the pids in a cgroup and below it. A cgroup that is removed meanwhile has none."""
    pids: set[int] = set()
    for file in (directory / "cgroup.procs", *directory.rglob("*/cgroup.procs")):
        try:
            pids.update(int(line) for line in file.read_text().split())
        except OSError as error:
            # ENODEV and ENOENT: the cgroup was removed. EOPNOTSUPP: it is threaded, and only its
            # domain lists its processes.
            if error.errno not in (errno.ENODEV, errno.ENOENT, errno.EOPNOTSUPP):
                raise CleanupError(f"{file}: {(error.strerror or 'unreadable').lower()}") from error
    # 0 stands for a process outside of our pid namespace.
    return pids - {0}


def pagetables_bytes(directory: Path) -> int | None:
    """Return the bytes of page tables charged to a cgroup and all below it.

    This is None without the memory controller. A table is charged to the cgroup that the process
    was in when it got the table, also after the process moved on. Changes of up to some 256 kB per
    CPU may show only after LAZY_SECONDS.
    """
    try:
        lines = (directory / "memory.stat").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split() for line in lines)
    return int(fields["pagetables"]) if "pagetables" in fields else None
