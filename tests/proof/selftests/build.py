# SPDX-License-Identifier: MIT
"""The programs of a kernel's own tools/testing/selftests/mm, built from that kernel's source."""

import hashlib
import os
import re
import tempfile
from pathlib import Path

from cleanup.lab import SOURCES, Kernel, LabError, buildroot
from cleanup.lab.buildroot import get_build_root
from cleanup.lab.cache import cache_dir, made_once
from cleanup.lab.packages import Apt
from cleanup.lab.progress import Progress
from cleanup.lab.sources import newest_source, unpack_source

# The programs' directory in an entry of the cache, beside make's output.
PROGRAMS = "programs"
LIBRARIES = ("libcap-dev", "libnuma-dev")
# The programs are static, because the guest has the host's libc and not the build root's.  Linux
# 6.12.117's khugepaged.c uses KSFT_SKIP, and lacks the header that defines it as 4.
FLAGS = (
    "-static",
    "-DKSFT_SKIP=4",
    "-I/libraries/include",
    "-L/libraries/lib/x86_64-linux-gnu",
)


def get_programs(kernel: Kernel, progress: Progress) -> Path:
    """Return a directory of the programs, which takes some minutes to build the first time.

    Raises LabError if they can't be built, or Debian no longer has the source of this kernel.
    """
    if kernel.name not in SOURCES:
        raise LabError(f"selftests are built of {', '.join(SOURCES)}, not of {kernel.name!r}")
    root = get_build_root(progress=progress)
    version = _package_version(kernel)
    made_of = (version, root.run([SOURCES[kernel.name].compiler, "--version"]), FLAGS, LIBRARIES)
    key = hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]
    final = cache_dir() / "selftests" / f"{kernel.release}-{key}"
    made_once(
        final,
        f"selftests {final.name}",
        progress,
        lambda new: _build(kernel, version, new, progress),
    )
    return final / PROGRAMS


def _package_version(kernel: Kernel) -> str:
    """Return the version of the Debian source that a kernel was built from, as its headers say."""
    headers = kernel.tree / "usr/src" / f"linux-headers-{kernel.release}"
    found = re.search(r'"\s*Debian (\S+)"', (headers / "include/generated/package.h").read_text())
    if found is None:
        raise LabError(f"{headers} does not tell the version of its source")
    return found[1]


def _build(kernel: Kernel, version: str, final: Path, progress: Progress) -> None:
    root = get_build_root()
    source = newest_source(kernel.name, progress)
    if source.version != version:
        raise LabError(
            f"the lab's linux {kernel.name} is {version}, Debian's source {source.version}: get "
            f"that kernel with pgtable-cleanup lab run --kernel {kernel.name} --refresh true"
        )
    with tempfile.TemporaryDirectory(dir=final, prefix="build.") as work:
        tree, libraries = Path(work) / "source", Path(work) / "libraries"
        unpack_source(root, kernel.name, source, tree, progress)
        with Apt.locked([buildroot.SUITE], progress) as apt:
            packages = apt.resolve(buildroot.SUITE, LIBRARIES)
            wanted = [package for package in packages if package.name in LIBRARIES]
            apt.unpack("the selftests' libraries", wanted, libraries)
        name = SOURCES[kernel.name].compiler
        make = ["make", "ARCH=x86_64", f"CC={name}", f"HOSTCC={name}", "-C"]
        with progress.step(f"building the selftests of {kernel.release}"):
            root.run([*make, "/mnt", "headers"], writable={Path("/mnt"): tree})
            log = root.run(
                [*make, "/mnt/tools/testing/selftests/mm", f"USERCFLAGS={' '.join(FLAGS)}"],
                readable={Path("/libraries"): libraries / "usr"},
                writable={Path("/mnt"): tree},
            )
        (final / PROGRAMS).mkdir()
        for path in (tree / "tools/testing/selftests/mm").iterdir():
            if path.is_file() and os.access(path, os.X_OK) and not path.suffix:
                path.rename(final / PROGRAMS / path.name)
        (final / "build.log").write_text(log)
