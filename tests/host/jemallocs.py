# SPDX-License-Identifier: MIT
"""jemalloc as Debian's releases have it, and Python programs that allocate by it."""

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import _libc

from allocator_shim.preloading import jemalloc_path
from host import programs

# Debian's release that has each version; None is for the version that this host has installed.
SUITES = {"5.2.1": "bullseye", "5.3.0": None, "5.3.1": "forky"}
# This version may need a newer C library than this host's: programs get that of its release.
NEWER = "5.3.1"

PRELUDE = f"""
import array, os, struct, sys, threading, time
sys.path.insert(0, {str(Path(_libc.__file__).parent)!r})
import _libc
from experiments.allocators._objects import Objects
from allocator_shim import jemalloc
from allocator_shim.errors import JemallocError
def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) << 10
def vmpte():
    return status("VmPTE")
"""

# Releases a heap of as many objects as sys.argv[-1] says, in steps that are small: none of them is
# of a whole unit, as with a program at work.
RELEASED_IN_STEPS = """
before = vmpte()
objects = Objects(int(sys.argv[-1]), 1000, 5)
objects.fill()
full = vmpte()
for keep in (3, 7, 50, 1000, 100_000):
    objects.release(keep)
    jemalloc.purge()
print(before, full, vmpte(), objects.check(), objects.lost)
"""


def check_tables_went(said: str, objects: int) -> None:
    """Check what RELEASED_IN_STEPS printed: of all its tables hardly any are left."""
    before, full, after, kept, lost = map(int, said.split())
    assert (kept > 0, lost) == (True, 0)
    assert full - before >= objects // 5000 * 4096
    assert after - before <= (kept + 30) * 4096


# ended(child) waits for a forked child.  That has one thread: nobody wakes it once it waits for a
# lock without a limit of time.  Then the child is killed, and the library is told whose lock it is.
CHILDREN = """
import signal
def library_at(pid, address):
    library = end = None
    with open(f"/proc/{pid}/maps") as lines:
        for line in lines:
            span, _, _, _, _, *name = line.split(maxsplit=5)
            begin, before = int(span.split("-")[0], 16), end
            end = int(span.split("-")[1], 16)
            # The zeroed data of a library have no name, and follow its file.
            library = name[0].strip() if name else library if begin == before else None
            if begin <= address < end:
                return library
def ended(child):
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.001)
        with open(f"/proc/{child}/wchan") as wchan, open(f"/proc/{child}/syscall") as syscall:
            function, call = wchan.read(), syscall.read().split()
        if "futex" in function and len(call) > 4 and call[4] == "0x0":
            library = library_at(child, int(call[1], 16))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"waits for a lock of {library}"
"""


@dataclass(frozen=True)
class Jemalloc:
    """A jemalloc library, and the command that programs which preload it are started by."""

    library: Path
    start: tuple[str | Path, ...] = ()

    def ended(
        self,
        program: str,
        conf: str = "",
        *arguments: str,
        shim_conf: str = "",
        before: object = "",
    ) -> "subprocess.CompletedProcess[str]":
        """Run a Python program behind PRELUDE; `before` is preloaded before jemalloc."""
        ended = subprocess.run(
            [
                *self.start,
                sys.executable,
                "-P",
                "-c",
                PRELUDE + textwrap.dedent(program),
                *arguments,
            ],
            env={
                "LD_PRELOAD": f"{before} {self.library}",
                "PYTHONMALLOC": "malloc",
                "MALLOC_CONF": conf,
                "PGTABLE_CLEANUP_CONF": shim_conf,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended

    def run(self, program: str, conf: str = "", *arguments: str, shim_conf: str = "") -> str:
        """Return what a Python program prints."""
        return self.ended(program, conf, *arguments, shim_conf=shim_conf).stdout

    def frees_units(self) -> bool:
        """Say whether this kernel frees a table at one MADV_DONTNEED of its 2 MiB."""
        return self.run("print(jemalloc.install_hooks())") == "zap\n"


def installed() -> Jemalloc:
    """Return the jemalloc that this host has installed."""
    return Jemalloc(Path(jemalloc_path()))


def get(version: str, tree: Path) -> Jemalloc:
    """Return a version of jemalloc, which is unpacked below `tree` if another release has it.

    Raises KernelNotServed where the mirror has that release no more.
    """
    suite = SUITES[version]
    if suite is None:
        return installed()
    programs.unpacked("libjemalloc2", tree, suite, with_all=version == NEWER)
    libraries = tree / "usr/lib/x86_64-linux-gnu"
    library = libraries / "libjemalloc.so.2"
    if version != NEWER:
        return Jemalloc(library)
    loader = next(tree.rglob("ld-linux-x86-64.so.2"))
    return Jemalloc(library, (os.fspath(loader), "--library-path", libraries))
