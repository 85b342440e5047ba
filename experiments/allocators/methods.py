# SPDX-License-Identifier: MIT
"""The ways to run a program that allocates: alone, or with something that frees its tables."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import allocator_shim
from allocator_shim.preloading import CONF, environment, jemalloc_path
from cleanup import _uapi


@dataclass(frozen=True, slots=True)
class ProgramMethod:
    """One way to run a program.

    `conf` configures the preload library; where it is None, the library is not preloaded.
    `malloc_conf` configures jemalloc, and `variables` are set in the program's environment, such as
    those that configure mimalloc. Where `device` is True the method needs the module's device,
    where it is False the device must be missing, and where it is None either will do.
    """

    name: str
    conf: Mapping[str, str] | None = None
    malloc_conf: Mapping[str, str] = field(default_factory=dict)
    device: bool | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    def works_here(self) -> bool:
        """Tell whether the machine has the device, or lacks it, as the method needs it."""
        return self.device is None or self.device == Path(_uapi.DEVICE).exists()

    def attended(self) -> "ProgramMethod":
        """Return the same method with the library's own thread, unless its conf says otherwise.

        Without that thread, the library frees tables only when the program calls it.
        """
        if self.conf is None:
            return self
        return replace(self, conf={**self.conf, "thread": self.conf.get("thread", "true")})

    def with_malloc_conf(self, more: Mapping[str, str]) -> "ProgramMethod":
        """Return the same method with more settings for jemalloc."""
        return replace(self, malloc_conf={**self.malloc_conf, **more})

    def environment(self, libraries: Sequence[str]) -> dict[str, str]:
        """Return the environment of a process that uses this method and preloads `libraries`."""
        shim = [] if self.conf is None else [str(allocator_shim.shim_path())]
        given = {name: value for name, value in os.environ.items() if name != CONF}
        return environment(
            {
                **given,
                # pymalloc keeps Python's small objects out of the heap that is measured.
                "PYTHONMALLOC": "pymalloc",
                # Huge pages have no tables below them, and hide what the allocators do.
                "MALLOC_CONF": _joined({"thp": "never", **self.malloc_conf}),
                **self.variables,
            },
            [*shim, *libraries],
            [] if self.conf is None else [_joined(self.conf)],
        )


def _joined(conf: Mapping[str, str]) -> str:
    return ",".join(f"{key}:{value}" for key, value in conf.items())


def jemalloc() -> list[str]:
    """Return the libraries to preload for jemalloc.  Raises LibraryMissing if there is none."""
    return [jemalloc_path()]


NONE = ProgramMethod("none")
# The option retain:false has jemalloc unmap what it frees.
RETAIN_FALSE = ProgramMethod("retain:false", malloc_conf={"retain": "false"})
# With the backend `null` the library does all of its work but the ioctl.
NULL = ProgramMethod("library alone", {"backend": "null"})
NO_DEVICE = ProgramMethod("library, no device", {}, device=False)
MODULE = ProgramMethod("module", {}, device=True)
HOOKS = ProgramMethod("hooks", {"hooks": "jemalloc", "backend": "null"})
HOOKS_MODULE = ProgramMethod("hooks, module", {"hooks": "jemalloc"}, device=True)

SLOWEST = {NULL.name: 1.02, NO_DEVICE.name: 1.01, HOOKS.name: 1.05}
"""The most CPU time that a method may take, as a multiple of that of the allocator alone."""
