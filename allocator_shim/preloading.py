# SPDX-License-Identifier: MIT
"""The environment in which the loader preloads libraries into a process."""

import errno
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from allocator_shim import _conf
from allocator_shim._figures import Conf, conf_of
from allocator_shim.errors import LibraryMissing

CONF = "PGTABLE_CLEANUP_CONF"
"""The environment variable that configures libpgtable_cleanup.so."""
JEMALLOC = "libjemalloc.so.2"
# The library sets this variable for the processes that its own process starts, so that each
# complaint about the environment is made once.
_TOLD = "PGTABLE_CLEANUP_TOLD"


def environment(
    given: Mapping[str, str], libraries: Sequence[str], conf: Sequence[str]
) -> dict[str, str]:
    """Return the environment ``given``, with libraries to preload and settings for ours added.

    ``libraries`` are paths; they come before those that LD_PRELOAD names already.  ``conf`` are
    settings such as ``"threshold:256"``; they come after those that are there, and so override
    them.

        >>> environment({"LD_PRELOAD": "b.so"}, ["a.so"], ["stats:exit"])
        {'LD_PRELOAD': 'a.so b.so', 'PGTABLE_CLEANUP_CONF': 'stats:exit'}
    """
    preload = [*libraries, *given.get("LD_PRELOAD", "").replace(":", " ").split()]
    given = {name: value for name, value in given.items() if name != _TOLD}
    merged = ",".join(part for part in (given.get(CONF, ""), *conf) if part)
    return {
        **given,
        "LD_PRELOAD": " ".join(dict.fromkeys(preload)),
        **({CONF: merged} if merged else {}),
    }


def conf_in_force(text: str) -> Conf:
    """Return the configuration of a library that finds ``text`` in its environment.

    >>> conf_in_force("threshold:256").threshold
    256
    """
    return conf_of(_conf.parse(text)[0])


def wrong_entries(text: str) -> list[str]:
    """Return why the library would ignore entries of a conf; an empty list if it takes them all.

    >>> wrong_entries("threshold:256,stats:always")
    ['stats:always: the value must be exit or none']
    """
    return _conf.parse(text)[1]


def jemalloc_path() -> str:
    """Return the path of jemalloc's library.  Raises LibraryMissing where it is not installed."""
    return library_path(JEMALLOC, "libjemalloc2")


def library_path(library: str, package: str) -> str:
    """Return the path at which the loader finds a library, by the loader's own cache.

    ``package`` is the Debian package that would install it; LibraryMissing names it.
    """
    listed = subprocess.run(
        [shutil.which("ldconfig") or "/sbin/ldconfig", "-p"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    for line in listed.splitlines():
        name, _, path = line.strip().partition(" => ")
        if name.split()[:1] == [library] and "x86-64" in name:
            return path
    raise LibraryMissing(
        errno.ENOENT, f"{library} is not installed (Debian's package {package})", library
    )
