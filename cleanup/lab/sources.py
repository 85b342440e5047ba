# SPDX-License-Identifier: MIT
"""The sources of Debian's kernels, from its packages, and the compilers they are built with."""

import tempfile
from pathlib import Path

from cleanup.lab.buildroot import BuildRoot
from cleanup.lab.kernels import SOURCES
from cleanup.lab.packages import Apt, Package
from cleanup.lab.progress import Progress

COMPILERS = {"6.1": "gcc-12"}
NEWER_COMPILER = "gcc-14"


def compiler(name: str) -> str:
    """The compiler, in the build root, of the kernel of that name, one of SOURCES."""
    return COMPILERS.get(name, NEWER_COMPILER)


def newest_source(name: str, progress: Progress) -> Package:
    """Debian's newest source of the kernel of that name, one of SOURCES."""
    wanted = f"linux-source-{name}"
    with Apt.locked(SOURCES[name].suites, progress) as apt:
        packages = apt.resolve(SOURCES[name].suite, [wanted])
    return next(package for package in packages if package.name == wanted)


def fetch_source(name: str, package: Package, directory: Path, progress: Progress) -> Path:
    """Extract a source's package into a directory: the archive that it holds."""
    with Apt.locked(SOURCES[name].suites, progress) as apt:
        apt.unpack(f"the source of linux {name}", [package], directory)
    return next(directory.glob("usr/src/linux-source-*.tar.xz"))


def unpack_source(
    root: BuildRoot, name: str, package: Package, tree: Path, progress: Progress
) -> None:
    """Make a directory that holds the source's files."""
    tree.mkdir()
    with tempfile.TemporaryDirectory(dir=tree.parent, prefix="package.") as fetched:
        archive = fetch_source(name, package, Path(fetched), progress)
        with progress.step(f"unpacking the source of linux {name}"):
            root.run(
                ["tar", "-xf", f"/archive/{archive.name}", "--strip-components=1", "-C", "/mnt"],
                readable={Path("/archive"): archive.parent},
                writable={Path("/mnt"): tree},
            )
