# SPDX-License-Identifier: MIT
"""The preload library with a fault put in, to show that a storm notices."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import preloaded
import storm
from allocator_shim.preloading import jemalloc_path
from host.platforms import meson
from storm import Length

ROOT = Path(__file__).parents[1]
# pages.c offers this place to tests: a unit is about to be given back, and others have to wait.
PAUSE = "-DPAGES_PAUSE()=nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL)"
# What meson makes the library of; the rest of the tree is for Python.
SOURCE = ("meson.build", "meson.options", "LICENSES", "allocator_shim", "kmod")


@dataclass(frozen=True)
class Fault:
    """An edit of one of the library's files."""

    name: str
    file: str
    """The file, below allocator_shim/."""
    old: str
    new: str
    under_hooks: bool = True
    """Whether the fault is in jemalloc's hooks, and not in libc's functions."""

    def __str__(self) -> str:
        """Return the fault's name."""
        return self.name


NONE = Fault("none", "jemalloc/pages.c", "PAGES_PAUSE();", "PAGES_PAUSE();")
_DROP = "return !shim_syscall3(__NR_madvise, addr, length, MADV_DONTNEED);"
ZEROS = Fault("zeros promised", "jemalloc/hooks.c", _DROP, "return true;")
MORE = Fault(
    "too much dropped", "jemalloc/hooks.c", _DROP, _DROP.replace("length", "length + 4096")
)
UNWAITED = Fault(
    "used while given back",
    "jemalloc/pages.c",
    "seen = seen & BUSY ? wait_for(unit, seen) : seen;",
    "if (seen & BUSY) return;",
)
ADVISED = Fault(
    "too much advised",
    "preload/interpose.c",
    "next.madvise(addr, length, advice)",
    "next.madvise(addr, length + 4096, advice)",
    under_hooks=False,
)
FAULTS = (ZEROS, MORE, UNWAITED, ADVISED)


def build(fault: Fault, directory: Path) -> Path:
    """Build the library with a fault; ValueError if the edit does not fit."""
    tree, built = directory / "source", directory / "build"
    tree.mkdir(parents=True)
    for name in SOURCE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, symlinks=True)
        else:
            shutil.copyfile(ROOT / name, tree / name)
    path = tree / "allocator_shim" / fault.file
    text = path.read_text()
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault}: {fault.file} has {text.count(fault.old)} times {fault.old!r}")
    path.write_text(text.replace(fault.old, fault.new))
    meson("setup", "-Dpython=false", f"-Dc_args={[PAUSE]!r}", built, tree)
    meson("compile", "-C", built)
    return built / "allocator_shim/libpgtable_cleanup.so"


def once(library: Path, fault: Fault, length: Length) -> "subprocess.CompletedProcess[str]":
    """Run a storm under a library that `build` made, where the fault can show itself."""
    hooks, allocators = (",hooks:jemalloc", [jemalloc_path()]) if fault.under_hooks else ("", [])
    env = preloaded.environment(
        f"backend:null,{storm.CONF}{hooks}", MALLOC_CONF=f"thp:never,{storm.DECAYS[0]}"
    )
    preload = " ".join([str(library), *allocators])
    return storm.once(storm.STORM, length, {**env, "LD_PRELOAD": preload})
