# SPDX-License-Identifier: MIT
"""Kernels with their own checks switched on, built from the sources of Debian's.

A build's configuration is what files of ``configs/`` ask for and nothing else: those of BUILDS,
and the one named like the kernel's line for what differs between lines.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from cleanup.lab.buildroot import BuildRoot, get_build_root
from cleanup.lab.cache import cache_dir, explained, lock, replacing
from cleanup.lab.errors import LabError
from cleanup.lab.kernels import SOURCES, Kernel, complete, kernel_in
from cleanup.lab.packages import want_space
from cleanup.lab.progress import Progress, Silent
from cleanup.lab.sources import newest_source, unpack_source

BUILDS = {"debug": ("machine", "debug"), "kcsan": ("machine", "kcsan")}
"""Each build's configuration, by files of ``configs/``."""

CONFIGS = Path(__file__).parent / "configs"
# Lines that make prints, roughly: they place the progress bar, and nothing else.
MAKE_LINES = 3000
# Sources, objects and what is kept of them, at most.
BUILD_BYTES = 6_000_000_000
# Of a built source, what the build of a module reads.
KEPT = (
    ".config",
    ".kernelvariables",
    "Makefile",
    "Module.symvers",
    "arch/x86/Makefile",
    "arch/x86/Makefile_32.cpu",
    "arch/x86/include",
    "include",
    "scripts",
    "tools/objtool/objtool",
)
# In a build's directory, and in the tree that it makes.
SOURCE = "source"
MADE_OF = "made-of.json"


def get_debug_kernel(
    name: str, build: str, *, progress: Progress | None = None, refresh: bool = False
) -> Kernel:
    """One of BUILDS of the kernel of that name, one of SOURCES.

    It is built the first time, when its configuration or compiler is another than it was built
    with, and, with ``refresh``, when Debian has a newer source; about ten minutes on two
    processors.  Raises LabError if it can't be built, or lacks an option of its configuration.
    """
    progress = progress or Silent()
    if name not in SOURCES:
        raise LabError(f"debug kernels are built of {', '.join(SOURCES)}, not of {name!r}")
    root = get_build_root(progress=progress)
    wanted = configuration(name, build)
    inputs = {
        "configuration": hashlib.sha256(_as_text(wanted).encode()).hexdigest(),
        "compiler": root.run([SOURCES[name].compiler, "--version"]).splitlines()[0],
    }
    tree = cache_dir() / "kernels" / f"{name}-{build}"
    if refresh or not _is_made_of(tree, inputs):
        with lock(f"kernel {tree.name}", progress):
            # Another process may have built it while this one waited.
            if refresh or not _is_made_of(tree, inputs):
                _update(root, name, build, tree, inputs, progress)
    return kernel_in(tree.name, tree)


def configuration(name: str, build: str) -> dict[str, str]:
    """The options asked for, CONFIG_ and all, with their values; the later file decides."""
    options: dict[str, str] = {}
    for file in (*BUILDS[build], name):
        options |= options_in((CONFIGS / f"{file}.config").read_text())
    # The module knows the lab's kernels by the end of their names.
    variant = "" if build == "debug" else f"-{build}"
    options["CONFIG_LOCALVERSION"] = f'"{variant}-pgtable-cleanup-debug"'
    return options


def options_in(text: str) -> dict[str, str]:
    """The options that a .config sets, but for those that are not set."""
    return dict(re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.MULTILINE))


def missing(wanted: Mapping[str, str], final: Mapping[str, str]) -> list[str]:
    """The options, as lines of a .config, that a final configuration does not have as asked."""
    return [
        f"{option}={value}" for option, value in wanted.items() if final.get(option, "n") != value
    ]


def _as_text(options: Mapping[str, str]) -> str:
    return "".join(f"{option}={value}\n" for option, value in options.items())


def _is_made_of(tree: Path, inputs: Mapping[str, str]) -> bool:
    try:
        made_of = json.loads((tree / MADE_OF).read_text())
    except FileNotFoundError:
        return False
    return bool(inputs.items() <= made_of.items())


def _update(
    root: BuildRoot,
    name: str,
    build: str,
    tree: Path,
    inputs: Mapping[str, str],
    progress: Progress,
) -> None:
    """Build from Debian's newest source, unless the tree's kernel was."""
    source = newest_source(name, progress)
    made_of = {**inputs, "source": source.version}
    if _is_made_of(tree, made_of):
        return
    with (
        replacing(tree) as new,
        explained(f"build {tree.name}"),
        tempfile.TemporaryDirectory(dir=new, prefix="build.") as work,
    ):
        want_space(new, BUILD_BYTES)
        unpack_source(root, name, source, Path(work) / SOURCE, progress)
        release = _build(root, name, build, Path(work), progress)
        _install(root, Path(work), new, release, progress)
        (new / MADE_OF).write_text(json.dumps(made_of, indent=2) + "\n")


def _build(root: BuildRoot, name: str, build: str, work: Path, progress: Progress) -> str:
    """Configure and compile the source below a directory; the kernel's release."""
    writable = {Path("/mnt"): work}
    wanted = configuration(name, build)
    # Debian's Makefiles read it, those of a module's build too.
    (work / SOURCE / ".kernelvariables").write_text(
        "".join(f"{variable} = {SOURCES[name].compiler}\n" for variable in ("CC", "HOSTCC"))
    )
    (work / "wanted.config").write_text(_as_text(wanted))
    make = ["make", "-C", f"/mnt/{SOURCE}", f"-j{os.cpu_count()}"]
    with progress.step(f"configuring linux {name}, {build}"):
        root.run([*make, "KCONFIG_ALLCONFIG=/mnt/wanted.config", "allnoconfig"], writable=writable)
    lacking = missing(wanted, options_in((work / SOURCE / ".config").read_text()))
    if lacking:
        raise LabError(f"linux {name} would be built without {', '.join(lacking)}")
    lines = count(1)
    with progress.step(f"building linux {name}, {build}") as advance:
        root.run(
            [*make, "bzImage", "modules"],
            writable=writable,
            on_line=lambda _line: advance(min(0.99, next(lines) / MAKE_LINES)),
        )
    return (work / SOURCE / "include/config/kernel.release").read_text().strip()


def _install(root: BuildRoot, work: Path, tree: Path, release: str, progress: Progress) -> None:
    """Bring what was built into the layout of a Debian kernel's extracted packages."""
    source = work / SOURCE
    root.run(
        ["make", "-C", f"/mnt/{SOURCE}", "INSTALL_MOD_PATH=/mnt/installed", "modules_install"],
        writable={Path("/mnt"): work},
    )
    (work / "installed/lib").rename(tree / "lib")
    for link in ("build", "source"):
        (tree / "lib/modules" / release / link).unlink(missing_ok=True)
    (tree / "boot").mkdir()
    (source / "arch/x86/boot/bzImage").rename(tree / "boot" / f"vmlinuz-{release}")
    complete(root, tree, release, progress)
    headers = tree / "usr/src" / f"linux-headers-{release}"
    for name in KEPT:
        # Not every configuration builds objtool.
        if (source / name).exists():
            (headers / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).rename(headers / name)
