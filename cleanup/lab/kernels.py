# SPDX-License-Identifier: MIT
"""Debian's own kernels, extracted from their packages: image, modules and headers.

A kernel's tree holds what ``dpkg-deb --extract`` of its packages gives, and ``modules.dep`` and its
kin as depmod makes them.  A directory with the same layout can be named in place of a kernel.
"""

import platform
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cleanup.lab.buildroot import BuildRoot, get_build_root
from cleanup.lab.cache import cache_dir, lock, replacing
from cleanup.lab.errors import KernelNotServed, LabError
from cleanup.lab.packages import Apt, Package
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
class Source:
    """Where a kernel comes from; ``kernels.toml`` says what each field is."""

    suites: Sequence[str]
    image: str
    compiler: str
    storms: Mapping[str, Any]


_TABLES = tomllib.loads((Path(__file__).parent / "kernels.toml").read_text())
SOURCES = {name: Source(**table) for name, table in _TABLES.items()}
"""The kernels that the lab gets from Debian, by name, oldest first."""
DEFAULT = "6.12"


@contextmanager
def serving(
    name: str, package: str, progress: Progress
) -> Iterator[tuple[Apt, Callable[[Iterable[str]], list[Package]], str]]:
    """Find the first suite of the kernel ``name``, one of SOURCES, that serves a package.

    Yields an apt over that suite, a function that resolves packages in it, and the name of the
    newest package that matches the regular expression ``package``.  Raises KernelNotServed if no
    suite has any, and LabError if the mirror can't be asked.
    """
    reasons = []
    for suite in SOURCES[name].suites:
        with ExitStack() as stack:
            # Backported packages depend on packages of the release that they are made for.
            suites = dict.fromkeys([suite.removesuffix("-backports"), suite])
            try:
                apt = stack.enter_context(Apt.locked(list(suites), progress))
                found = apt.newest(package)
            except KernelNotServed as error:
                reasons.append(f"{suite}: {error}")
                continue
            yield apt, partial(apt.resolve, suite), found
            return
    raise KernelNotServed(f"Debian serves no linux {name} any more ({'; '.join(reasons)})")


def get_kernel(name: str, *, progress: Progress | None = None, refresh: bool = False) -> Kernel:
    """Return the kernel ``name``, which is one of SOURCES or a directory.

    One of SOURCES is downloaded the first time, and with ``refresh`` if Debian has a newer one;
    else the network is left alone.  Raises KernelNotServed if Debian does not serve it any more
    and it was not downloaded before, LabError if there is no such kernel or it can't be had.
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
                try:
                    _update(name, tree, progress)
                except KernelNotServed as error:
                    if not tree.exists():
                        raise
                    with progress.step(f"{error}: the one that was downloaded before stays"):
                        pass
    return kernel_in(name, tree)


def downloaded_release(name: str) -> str | None:
    """Return the release of the kernel ``name``, one of SOURCES, or None if not downloaded."""
    tree = cache_dir() / "kernels" / name
    return kernel_in(name, tree).release if tree.exists() else None


def check_name(name: str) -> None:
    """Raise LabError unless the name is one of SOURCES or a directory."""
    if name not in SOURCES and not Path(name).is_dir():
        raise LabError(
            f"unknown kernel {name!r}: give one of {', '.join(SOURCES)}, "
            "or a directory with a kernel's extracted packages"
        )


def kernel_in(name: str, tree: Path) -> Kernel:
    """Return the kernel whose packages are extracted in a directory.  Raises LabError if none."""
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
    """Download the newest release of a kernel, unless the tree holds it."""
    if platform.machine() != "x86_64":
        raise LabError(f"the lab's kernels are for x86-64, this host is {platform.machine()}")
    root = get_build_root(progress=progress)
    with serving(name, SOURCES[name].image, progress) as (apt, resolve, image):
        release = image.removeprefix("linux-image-")
        if tree.exists() and kernel_in(name, tree).release == release:
            return
        packages = [
            package
            for package in resolve([image, f"linux-headers-{release}"])
            if package.name.startswith("linux-") and package.name != "linux-libc-dev"
        ]
        with replacing(tree) as new:
            apt.unpack(f"linux {name}", packages, new)
            complete(root, new, release, progress)


def complete(root: BuildRoot, tree: Path, release: str, progress: Progress) -> None:
    """Make the extracted tree's ``lib`` a link to ``usr/lib``, as on Debian, and run depmod."""
    library = tree / "lib"
    if library.is_dir() and not library.is_symlink():
        (tree / "usr/lib").mkdir(parents=True, exist_ok=True)
        (library / "modules").rename(tree / "usr/lib/modules")
        library.rmdir()
    if not library.is_symlink():
        library.symlink_to("usr/lib")
    with progress.step(f"indexing the modules of {release}"):
        root.run(["depmod", "-b", "/mnt", release], writable={Path("/mnt"): tree})
