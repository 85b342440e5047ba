# SPDX-License-Identifier: MIT
"""A Debian userland to build kernels and their modules in, whatever compiler and libc the host has.

It is extracted from packages and entered with bubblewrap, by root and by ordinary users alike.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cleanup.lab.cache import cache_dir, made_once
from cleanup.lab.errors import LabError
from cleanup.lab.host import follow, program
from cleanup.lab.packages import Apt
from cleanup.lab.progress import Progress, Silent

# The newest of the releases whose kernels the lab builds for: the kernels' own build tools run on
# a newer libc than theirs, not on an older one.
SUITE = "trixie"
# These are the kernels' compilers (gcc-12 for 6.1), the tools that kbuild calls for modules and for
# whole kernels, sparse for C=1, and the guest's busybox.
PACKAGES = [
    "base-files",
    "bash",
    "bc",
    "binutils",
    "bison",
    "busybox-static",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "flex",
    "gawk",
    "gcc-12",
    "gcc-14",
    "grep",
    "gzip",
    "kmod",
    "libc6-dev",
    "libelf-dev",
    "libssl-dev",
    "make",
    "pahole",
    "perl-base",
    "python3-minimal",
    "sed",
    "sparse",
    "tar",
    "xz-utils",
]
# The packages' maintainer scripts would make these links, but they don't run.
LINKS = {"usr/bin/awk": "gawk"}


@dataclass(frozen=True)
class BuildRoot:
    """The extracted userland."""

    path: Path

    @property
    def busybox(self) -> Path:
        """The path of the static busybox."""
        return self.path / "usr/bin/busybox"

    def run(
        self,
        command: Sequence[str],
        *,
        readable: Mapping[Path, Path] | None = None,
        writable: Mapping[Path, Path] | None = None,
        cwd: str = "/",
        on_line: Callable[[str], object] = lambda _line: None,
    ) -> str:
        """Run a command in the root; `readable` and `writable` map its paths to the host's.

        `on_line` gets each line of output as it comes.  Returns all output; raises LabError with
        the end of it if the command fails.
        """
        arguments = ["--ro-bind", str(self.path), "/", "--proc", "/proc", "--dev", "/dev"]
        arguments += ["--tmpfs", "/tmp", "--unshare-pid", "--unshare-net", "--die-with-parent"]  # noqa: S108
        for option, binds in (("--ro-bind", readable), ("--bind", writable)):
            for inside, outside in (binds or {}).items():
                # A mount needs a directory to cover.
                (self.path / inside.relative_to("/")).mkdir(exist_ok=True)
                arguments += [option, str(outside), str(inside)]
        lines: list[str] = []

        def hear(line: str) -> None:
            lines.append(line)
            on_line(line)

        whole = [program("bwrap"), *arguments, "--chdir", cwd, "--", *command]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp", "LC_ALL": "C.UTF-8"}  # noqa: S108
        if follow(whole, hear, env=env) != 0:
            end = "".join(lines[-60:])
            raise LabError(f"{' '.join(command)} failed in the build root:\n{end}")
        return "".join(lines)


def get_build_root(*, progress: Progress | None = None) -> BuildRoot:
    """Return the build root, downloaded the first time.  Raises LabError if it can't be had."""
    progress = progress or Silent()
    contents = hashlib.sha256(repr((SUITE, PACKAGES, LINKS)).encode()).hexdigest()
    path = cache_dir() / f"buildroot-{contents[:12]}"

    def make(new: Path) -> None:
        with Apt.locked([SUITE], progress) as apt:
            apt.unpack("the build tools", apt.resolve(SUITE, PACKAGES), new)
        for link, target in LINKS.items():
            (new / link).symlink_to(target)
        for directory in ("proc", "dev", "tmp", "mnt"):
            (new / directory).mkdir(exist_ok=True)
        # Remove the roots that other versions of this file made from other packages.
        for other in set(path.parent.glob("buildroot-*")) - {path}:
            shutil.rmtree(other, ignore_errors=True)

    return BuildRoot(made_once(path, "build root", progress, make))
