# SPDX-License-Identifier: MIT
"""The kernel module, built for one kernel with the compiler that built that kernel."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from cleanup.lab.buildroot import get_build_root
from cleanup.lab.cache import cache_dir, explained, made_once
from cleanup.lab.errors import LabError
from cleanup.lab.kernels import Kernel
from cleanup.lab.progress import Progress, Silent


def module_source() -> Path:
    """Return the module's source: the wheel carries it, and a checkout has it in ``kmod/``."""
    package = Path(__file__).parents[1]
    for source in (package / "kmod_source", package.parent / "kmod"):
        if (source / "Kbuild").is_file():
            return source
    raise LabError(f"no module's source at {package / 'kmod_source'}: install the package anew")


def build_module(
    kernel: Kernel,
    *,
    source: Path | None = None,
    make_args: Sequence[str] = (),
    progress: Progress | None = None,
) -> Path:
    """Build the module in ``source`` (a Makefile that takes KDIR=) and return the .ko.

    The same source, kernel and arguments are built once; make's output is kept beside the .ko in
    ``build.log``.  The source directory stays as it is.  Raises LabError with the end of make's
    output if the build fails.
    """
    progress = progress or Silent()
    source = source or module_source()
    headers = kernel.tree / "usr/src" / f"linux-headers-{kernel.release}"
    if not headers.is_dir():
        raise LabError(f"cannot build a module for {kernel.release}: {headers} not found")
    key = _key(kernel, source, make_args)

    def make(new: Path) -> None:
        with progress.step(f"building the module for {kernel.release}"):
            _make(kernel, source, make_args, new)

    final = made_once(cache_dir() / "modules" / key, f"module {key}", progress, make)
    return next(final.glob("*.ko"))


def _sources(source: Path) -> Iterator[Path]:
    for path in sorted(source.rglob("*")):
        wanted = path.suffix in (".c", ".h", ".S") or path.name in ("Makefile", "Kbuild")
        if wanted and path.is_file() and not path.name.endswith(".mod.c"):
            yield path


def _key(kernel: Kernel, source: Path, make_args: Sequence[str]) -> str:
    content = hashlib.sha256()
    config = kernel.tree / "usr/src" / f"linux-headers-{kernel.release}" / ".config"
    for part in (kernel.release, str(kernel.tree), str(config.stat().st_mtime_ns), *make_args):
        content.update(part.encode() + b"\0")
    for path in _sources(source):
        content.update(str(path.relative_to(source)).encode() + b"\0")
        content.update(hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()[:32]


def _make(kernel: Kernel, source: Path, make_args: Sequence[str], final: Path) -> None:
    root = get_build_root()
    # Debian's headers and their links to the build tools name these paths.
    readable = {Path("/usr/src"): kernel.tree / "usr/src"}
    for tools in kernel.tree.glob("usr/lib/linux-kbuild-*"):
        readable[Path("/usr/lib") / tools.name] = tools
    with (
        tempfile.TemporaryDirectory(dir=final, prefix="build.") as build,
        explained("build the module"),
    ):
        for path in _sources(source):
            copy = Path(build) / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        arguments = [
            f"KDIR=/usr/src/linux-headers-{kernel.release}",
            # Without these variables, Debian's headers would ask dpkg for the architecture.
            "DEB_BUILD_ARCH=amd64",
            "DEB_HOST_ARCH=amd64",
        ]
        output = root.run(
            ["make", "-C", "/mnt", *arguments, *make_args],
            readable=readable,
            writable={Path("/mnt"): Path(build)},
        )
        modules = list(Path(build).glob("*.ko"))
        if len(modules) != 1:
            raise LabError(
                f"make built {len(modules)} modules in {source}, expected one:\n{output}"
            )
        modules[0].rename(final / modules[0].name)
        (final / "build.log").write_text(output)
