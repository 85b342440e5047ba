# SPDX-License-Identifier: MIT
"""Debian's own kernels, extracted from their packages: image, modules and headers.

A kernel's tree holds what ``dpkg-deb --extract`` of its packages gives, and ``modules.dep`` and its
kin as depmod makes them.  The same layout elsewhere serves as well: name its directory.
"""

import platform
from dataclasses import dataclass
from pathlib import Path

from cleanup.lab.buildroot import BuildRoot, get_build_root
from cleanup.lab.cache import cache_dir, lock, replacing
from cleanup.lab.errors import LabError
from cleanup.lab.packages import Apt
from cleanup.lab.progress import Progress, Silent


@dataclass(frozen=True)
class Kernel:
    """A kernel that the lab can boot and build modules for."""

    name: str
    """As the user named it: ``6.12``, or a directory."""
    release: str
    """As uname tells it: ``6.12.117+deb13-amd64``."""
    tree: Path
    vmlinuz: Path
    modules: Path
    """``…/lib/modules/RELEASE``"""


@dataclass(frozen=True)
class _Source:
    suite: str
    image: str

    @property
    def suites(self) -> list[str]:
        """The suite, and the release that backports lean on."""
        return list(dict.fromkeys([self.suite.removesuffix("-backports"), self.suite]))


# The newest of each line.  The pattern leaves out the cloud, rt and unsigned flavours and the
# debugging symbols: a release has no hyphen but the one of 6.1's ABI number.
SOURCES = {
    "6.1": _Source("bookworm", r"linux-image-6\.1\.[0-9]+-[0-9]+-amd64"),
    "6.12": _Source("trixie", r"linux-image-6\.12\.[^-]+-amd64"),
    "7.3": _Source("trixie-backports", r"linux-image-7\.3\.[^-]+-amd64"),
}
DEFAULT = "6.12"


def get_kernel(name: str, *, progress: Progress | None = None, refresh: bool = False) -> Kernel:
    """The kernel of that name (see SOURCES), or the one in the directory of that name.

    The first time, and with ``refresh``, it is downloaded; otherwise the network is left alone.
    Raises LabError if there is no such kernel or it can't be had.
    """
    progress = progress or Silent()
    check_name(name)
    if name not in SOURCES:
        return kernel_in(name, Path(name).resolve())
    tree = cache_dir() / "kernels" / name
    if refresh or not tree.exists():
        with lock(f"kernel {name}", progress):
            # Another process may have got it while this one waited.
            if refresh or not tree.exists():
                _update(name, tree, progress)
    return kernel_in(name, tree)


def check_name(name: str) -> None:
    """Raise LabError unless the name is one of SOURCES or a directory."""
    if name not in SOURCES and not Path(name).is_dir():
        raise LabError(
            f"unknown kernel {name!r}: give one of {', '.join(SOURCES)}, "
            "or a directory with a kernel's extracted packages"
        )


def kernel_in(name: str, tree: Path) -> Kernel:
    """The kernel whose packages are extracted in a directory.  Raises LabError if there is none."""
    releases = sorted(tree.glob("usr/lib/modules/*/")) + sorted(tree.glob("lib/modules/*/"))
    for modules in releases:
        release = modules.name
        for vmlinuz in (tree / "boot" / f"vmlinuz-{release}", modules / "vmlinuz"):
            if vmlinuz.exists():
                if not (modules / "modules.dep").exists():
                    raise LabError(f"{modules} has no modules.dep: run depmod -b {tree} {release}")
                return Kernel(name, release, tree, vmlinuz, modules)
    raise LabError(
        f"no kernel in {tree}: expected boot/vmlinuz-RELEASE or lib/modules/RELEASE/vmlinuz, "
        "and lib/modules/RELEASE"
    )


def _update(name: str, tree: Path, progress: Progress) -> None:
    """Get the newest release of that line, unless it is what the tree holds."""
    if platform.machine() != "x86_64":
        raise LabError(f"the lab's kernels are for x86-64, this host is {platform.machine()}")
    source = SOURCES[name]
    root = get_build_root(progress=progress)
    with Apt.locked(source.suites, progress) as apt:
        image = apt.newest_image(source.image)
        release = image.removeprefix("linux-image-")
        if tree.exists() and kernel_in(name, tree).release == release:
            return
        packages = [
            package
            for package in apt.resolve(source.suite, [image, f"linux-headers-{release}"])
            if package.name.startswith("linux-") and package.name != "linux-libc-dev"
        ]
        with replacing(tree) as new:
            apt.unpack(f"linux {name}", packages, new)
            complete(root, new, release, progress)


def complete(root: BuildRoot, tree: Path, release: str, progress: Progress) -> None:
    """Bring an extracted tree into one layout, ``lib`` a link as on Debian, and run depmod."""
    library = tree / "lib"
    if library.is_dir() and not library.is_symlink():
        (tree / "usr/lib").mkdir(parents=True, exist_ok=True)
        (library / "modules").rename(tree / "usr/lib/modules")
        library.rmdir()
    if not library.is_symlink():
        library.symlink_to("usr/lib")
    with progress.step(f"indexing the modules of {release}"):
        root.run(["depmod", "-b", "/mnt", release], writable={Path("/mnt"): tree})
