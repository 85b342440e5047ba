# SPDX-License-Identifier: MIT
"""The lab's cache of downloads and builds: each entry is complete or not there at all.

Everything lies below ``$XDG_CACHE_HOME/pgtable-cleanup`` (``~/.cache`` by default).  An entry is
made under a temporary name and renamed when it is whole, by one process at a time.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cleanup.lab.errors import LabError
from cleanup.lab.progress import Progress

MORE_SPACE = "free some space, or let XDG_CACHE_HOME name a directory with more"


def cache_dir() -> Path:
    """Return the cache's top directory, made if need be."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification wants relative paths ignored.
    top = (base if base.is_absolute() else Path.home() / ".cache") / "pgtable-cleanup"
    with explained(f"make the cache directory {top}"):
        top.mkdir(parents=True, exist_ok=True)
    return top


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn errors of a full or read-only disk into LabErrors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = MORE_SPACE
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = "let XDG_CACHE_HOME name a directory that can be written"
        else:
            raise
        raise LabError(f"cannot {doing}: {os.strerror(error.errno).lower()}; {hint}") from error


@contextmanager
def lock(name: str, progress: Progress) -> Iterator[None]:
    """Hold the cache's lock of that name, waiting for another process that has it."""
    path = cache_dir() / "locks" / name
    with explained(f"lock {path}"):
        path.parent.mkdir(exist_ok=True)
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step(f"waiting for another process that prepares {name}"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made_once(final: Path, what: str, progress: Progress, make: Callable[[Path], None]) -> Path:
    """Return the directory ``final``, which ``make`` fills the first time.

    ``make`` gets a new directory; if it raises, nothing is left of that.  ``what`` names the lock,
    and the entry where another process that makes it is waited for.
    """
    if not final.exists():
        with lock(what, progress):
            # Another process may have made it while this one waited.
            if not final.exists():
                with replacing(final) as new:
                    make(new)
    return final


@contextmanager
def replacing(final: Path) -> Iterator[Path]:
    """Yield a new directory that becomes ``final`` if the block ends well, else is removed.

    The caller holds the lock of ``final``.
    """
    with explained(f"write to {final.parent}"):
        final.parent.mkdir(parents=True, exist_ok=True)
        # A process that was killed left these behind, as no other holds the lock now.
        for stale in final.parent.glob(f".{final.name}.*"):
            shutil.rmtree(stale, ignore_errors=True)
        new = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}."))
        try:
            new.chmod(0o755)
            yield new
            if final.exists():
                shutil.rmtree(final)
            new.rename(final)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
