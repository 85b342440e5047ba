# SPDX-License-Identifier: MIT
"""The C library for other C libraries and architectures, built by zig, and programs under it.

Nothing is installed: Debian's packages of the loaders, and of an emulator, are unpacked into the
lab's cache.
"""

import hashlib
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cleanup.lab.cache import cache_dir, lock, made_once
from cleanup.lab.packages import Apt
from cleanup.lab.progress import on_stderr

ROOT = Path(__file__).parents[2]
SHIM = ROOT / "allocator_shim"
# The oldest release that Debian's mirrors serve has glibc 2.31 and musl 1.2.2.
OLDEST = "bullseye"
# And this one has an emulator that passes MADV_DONTNEED and MADV_WIPEONFORK on to the kernel.
NEWER = "trixie"
# The library runs under this glibc and later ones.
OLDEST_GLIBC = (2, 28)
ZIG = [sys.executable, "-m", "ziglang"]


@dataclass(frozen=True)
class Tree:
    """Packages of one release, unpacked; `keep` are the files to keep if others are large."""

    suite: str
    packages: tuple[str, ...]
    with_all: bool = False
    keep: tuple[str, ...] = ()

    def path(self) -> Path:
        """Return the directory, which is made once.  Raises LabError if that can't be done."""
        digest = hashlib.sha256(repr(self).encode()).hexdigest()[:12]
        path = cache_dir() / "platforms" / f"{self.packages[0]}-{digest}"
        return made_once(path, f"platform {path.name}", on_stderr(), self._unpack)

    def _unpack(self, tree: Path) -> None:
        with Apt.locked([self.suite], on_stderr()) as apt:
            found = apt.resolve(self.suite, self.packages)
            wanted = [one for one in found if self.with_all or one.name in self.packages]
            apt.unpack(self.packages[0], wanted, tree)
        for file in tree.rglob("*") if self.keep else ():
            if not file.is_dir() and str(file.relative_to(tree)) not in self.keep:
                file.unlink()


GLIBC = Tree(OLDEST, ("libc6", "libgcc-s1"))
MUSL = Tree(OLDEST, ("musl",))
GLIBC_AARCH64 = Tree(OLDEST, ("libc6-arm64-cross", "libgcc-s1-arm64-cross"))
EMULATOR = Tree(NEWER, ("qemu-user",), keep=("usr/bin/qemu-aarch64",))
BINUTILS_AARCH64 = Tree(NEWER, ("binutils-aarch64-linux-gnu",), with_all=True)


def _under_glibc() -> list[str | Path]:
    tree = GLIBC.path()
    libraries = tree / "lib/x86_64-linux-gnu"
    path = f"{libraries}:{tree / 'usr/lib/x86_64-linux-gnu'}"
    return [libraries / "ld-linux-x86-64.so.2", "--library-path", path]


def _under_musl() -> list[str | Path]:
    return [MUSL.path() / "lib/ld-musl-x86_64.so.1"]


def _emulated() -> list[str | Path]:
    return [
        EMULATOR.path() / "usr/bin/qemu-aarch64",
        "-L",
        GLIBC_AARCH64.path() / "usr/aarch64-linux-gnu",
    ]


def _binutils_aarch64() -> dict[str, list[str]]:
    """Return the commands of binutils for aarch64, which run under their own release's libc."""
    tree = BINUTILS_AARCH64.path()
    loader = next(tree.rglob("ld-linux-x86-64.so.2"))
    start = [str(loader), "--library-path", str(tree / "usr/lib/x86_64-linux-gnu")]
    return {
        name: [*start, str(tree / f"usr/bin/aarch64-linux-gnu-{name}")]
        for name in ("ld", "objcopy")
    }


@dataclass(frozen=True)
class Platform:
    """What a library is built for: zig's name of it, and what its programs are started by."""

    name: str
    target: str
    start: Callable[[], Sequence[str | Path]]
    more_tools: Callable[[], Mapping[str, list[str]]] = field(default=dict)

    @property
    def is_emulated(self) -> bool:
        """Whether an emulator stands between the programs and the kernel."""
        return self.start is _emulated

    def compiler(self) -> list[str]:
        """Return the command of the C compiler; what it makes loads the platform's libc."""
        return [
            *ZIG,
            "cc",
            "-target",
            self.target,
            *(["-dynamic"] if "musl" in self.target else []),
        ]

    def build(self) -> Path:
        """Build the C library, by meson alone, and return the directory with it and the archive."""
        directory = ROOT / "build/platforms" / self.name
        checkout = hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:12]
        cross = directory.with_suffix(".ini")
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Two runs of the tests may meet in one checkout.
        with lock(f"build of {directory.name} {checkout}", on_stderr()):
            if not (directory / "build.ninja").exists() or self._cross() != cross.read_text():
                cross.write_text(self._cross())
                wipe = ["--wipe"] if directory.exists() else []
                meson("setup", *wipe, "-Dpython=false", f"--cross-file={cross}", directory, ROOT)
            meson("compile", "-C", directory)
        return directory / "allocator_shim"

    def _cross(self) -> str:
        """Return what meson has to know of the platform: a cross file."""
        tools = {
            "c": self.compiler(),
            "ar": [*ZIG, "ar"],
            **self.more_tools(),
        }
        processor = self.target.partition("-")[0]
        machine = {"system": "linux", "cpu_family": processor, "cpu": processor, "endian": "little"}
        return "".join(
            f"[{section}]\n" + "".join(f"{key} = {value!r}\n" for key, value in values.items())
            for section, values in (("binaries", tools), ("host_machine", machine))
        )

    def compile(self, source: Path, program: Path, *more: str | Path) -> None:
        """Compile a C program of the tests for the platform."""
        includes = [SHIM / name for name in ("include", "core", "jemalloc")]
        subprocess.run(
            [
                *self.compiler(),
                *["-O1", "-fno-sanitize=undefined", "-Wall", "-Werror", "-pthread"],
                *[f"-I{path}" for path in (*includes, ROOT / "kmod/include/uapi")],
                *["-o", program, source, *more],
            ],
            check=True,
        )

    def run(
        self, program: Path, *arguments: str, conf: str, preload: str | Path = ""
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program under the platform's loader."""
        return subprocess.run(
            [*self.start(), program, *arguments],
            env={"LD_PRELOAD": os.fspath(preload), "PGTABLE_CLEANUP_CONF": conf},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


PLATFORMS = [
    Platform("glibc", "x86_64-linux-gnu.2.28", _under_glibc),
    Platform("musl", "x86_64-linux-musl", _under_musl),
    Platform("aarch64", "aarch64-linux-gnu.2.28", _emulated, _binutils_aarch64),
]


def glibc_versions(binary: Path) -> set[tuple[int, ...]]:
    """Return the versions of glibc whose symbols a library or a program asks for."""
    told = subprocess.run(
        ["readelf", "-W", "--version-info", binary], capture_output=True, text=True, check=True
    ).stdout
    return {
        tuple(int(part) for part in found.split("."))
        for found in re.findall(r"Name: GLIBC_([0-9.]+)", told)
    }


def meson(*arguments: str | Path) -> None:
    """Run meson of the venv; what it says is shown if it fails."""
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    done = subprocess.run(
        ["meson", *arguments],
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
