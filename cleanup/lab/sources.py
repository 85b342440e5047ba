# SPDX-License-Identifier: MIT
"""Downloads and unpacks the sources of Debian's kernels."""

import re
import tempfile
from pathlib import Path

from cleanup.lab.buildroot import BuildRoot
from cleanup.lab.kernels import serving
from cleanup.lab.packages import Package
from cleanup.lab.progress import Progress


def newest_source(name: str, progress: Progress) -> Package:
    """Return the newest package with the source of the kernel ``name``, one of SOURCES.

    Raises KernelNotServed if Debian does not serve it any more.
    """
    with serving(name, f"linux-source-{re.escape(name)}", progress) as (_, resolve, wanted):
        return next(package for package in resolve([wanted]) if package.name == wanted)


def fetch_source(name: str, package: Package, directory: Path, progress: Progress) -> Path:
    """Download and extract a source's package, and return the path of the archive in it."""
    with serving(name, re.escape(package.name), progress) as (apt, _, _):
        apt.unpack(f"the source of linux {name}", [package], directory)
    return next(directory.glob("usr/src/linux-source-*.tar.xz"))


def unpack_source(
    root: BuildRoot, name: str, package: Package, tree: Path, progress: Progress
) -> None:
    """Download a source's package, and unpack the files of the source into a new directory."""
    tree.mkdir()
    with tempfile.TemporaryDirectory(dir=tree.parent, prefix="package.") as fetched:
        archive = fetch_source(name, package, Path(fetched), progress)
        with progress.step(f"unpacking the source of linux {name}"):
            root.run(
                ["tar", "-xf", f"/archive/{archive.name}", "--strip-components=1", "-C", "/mnt"],
                readable={Path("/archive"): archive.parent},
                writable={Path("/mnt"): tree},
            )
