# SPDX-License-Identifier: MIT
"""jemalloc's own test programs, built from Debian's source package by this machine's compiler."""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cleanup.lab import LabError
from cleanup.lab.cache import cache_dir, made_once
from cleanup.lab.host import run
from cleanup.lab.packages import Apt
from cleanup.lab.progress import Progress

# Debian's release whose jemalloc is 5.3.0; what its patches change is not compiled on x86-64.
SUITE = "bookworm"
# Debian builds jemalloc for x86-64 with these.
CONFIGURED = (
    "--with-version=VERSION",
    "--with-lg-page=12",
    "--with-lg-hugepage=21",
    "--enable-prof",
)
TARGETS = ("tests_unit", "tests_integration")


def get_tests(progress: Progress) -> Path:
    """Return the directory in which the programs are run; to build them takes ten minutes.

    Raises LabError if they can't be built, or Debian no longer has the source.
    """
    compiler = _ran(["cc", "--version"], Path("/"))
    key = hashlib.sha256(repr((SUITE, CONFIGURED, TARGETS, compiler)).encode()).hexdigest()[:12]
    final = cache_dir() / "jemalloc-tests" / key
    return made_once(final, f"jemalloc's tests {key}", progress, lambda new: _build(new, progress))


def programs(directory: Path) -> list[str]:
    """Return the programs, as paths in the directory."""
    found = [
        path for part in ("unit", "integration") for path in (directory / "test" / part).rglob("*")
    ]
    return sorted(
        str(path.relative_to(directory))
        for path in found
        if path.is_file() and not path.suffix and os.access(path, os.X_OK)
    )


def _build(directory: Path, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix="pgtable-cleanup.") as fetched:
        with Apt.locked([SUITE], progress, sources=True) as apt:
            apt.source(SUITE, "jemalloc", Path(fetched))
        (archive,) = Path(fetched).glob("jemalloc_*.orig.tar.*")
        _ran(["tar", "-xf", str(archive), "--strip-components=1"], directory)
    with progress.step("building jemalloc's tests"):
        _ran(["./configure", *CONFIGURED], directory)
        log = _ran(["make", f"-j{os.cpu_count()}", *TARGETS], directory)
    (directory / "build.log").write_text(log)


def _ran(command: Sequence[str], directory: Path) -> str:
    done = run("env", "-C", directory, *command)
    if done.returncode:
        raise LabError(f"{' '.join(command)} failed: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout
