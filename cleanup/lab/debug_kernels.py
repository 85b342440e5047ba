# SPDX-License-Identifier: MIT
"""Kernels built from Debian's sources with the checks of the kernel itself switched on.

A build's configuration is what these files of ``configs/`` ask for, and nothing else: those that
BUILDS names, and the one named like the kernel, for what differs between kernels.
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
"""The files of ``configs/`` that make up each build's configuration."""

CONFIGS = Path(__file__).parent / "configs"
# Roughly the number of lines that make prints; only the progress bar depends on it.
MAKE_LINES = 3000
# The most disk space of a build: sources, objects, and what is kept of them.
BUILD_BYTES = 6_000_000_000
# These parts of a kernel's source tree are kept once it is built: building a module needs them.
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
# The directory of a build's sources, and the file in which a kernel's tree records its inputs.
SOURCE = "source"
MADE_OF = "made-of.json"


def get_debug_kernel(
    name: str, build: str, *, progress: Progress | None = None, refresh: bool = False
) -> Kernel:
    """Return the kernel ``name``, one of SOURCES, in the variant ``build``, one of BUILDS.

    It is built the first time, again when its configuration or compiler has changed, and, with
    ``refresh``, when Debian has a newer source.  That takes about ten minutes on two processors.
    Raises LabError if it can't be built, or lacks an option of its configuration.
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
    """Return the options that a build asks for, with values; a later file overrides an earlier."""
    options: dict[str, str] = {}
    for file in (*BUILDS[build], name):
        options |= options_in((CONFIGS / f"{file}.config").read_text())
    # By this end of a release's name the module knows a kernel that the lab has built.
    variant = "" if build == "debug" else f"-{build}"
    options["CONFIG_LOCALVERSION"] = f'"{variant}-pgtable-cleanup-debug"'
    return options


def options_in(text: str) -> dict[str, str]:
    """Return the options that a .config sets, without those that it says are not set."""
    return dict(re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.MULTILINE))


def missing(wanted: Mapping[str, str], final: Mapping[str, str]) -> list[str]:
    """Return the wanted options, as lines of a .config, that differ in the final configuration."""
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
    """Build the kernel from Debian's newest source, unless the tree holds that build."""
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
    """Configure and compile the source below ``work``, and return the kernel's release."""
    writable = {Path("/mnt"): work}
    wanted = configuration(name, build)
    # Debian's Makefiles read this file, also when a module is built.
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
    """Move the built files into the layout of a Debian kernel's extracted packages."""
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
