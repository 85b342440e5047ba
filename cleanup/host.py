# SPDX-License-Identifier: MIT
"""This host's kernel, and what stands in the way of loading the module on it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# kmod/compat/proved.c has the last word on which kernels are proved; this repeats its judgement.
PROVED_SERIES = ("6.1", "6.12", "7.3")
LAB_SUFFIX = "-pgtable-cleanup-debug"
CAP_SYS_MODULE = 16


@dataclass(frozen=True, slots=True)
class HostKernel:
    """A host's kernel, as uname(2) names it. `root` is where its /proc, /sys and /lib are."""

    release: str
    version: str
    machine: str
    root: Path = Path("/")

    @classmethod
    def running(cls) -> "HostKernel":
        """Return the kernel that this process runs on."""
        uname = os.uname()
        return cls(uname.release, uname.version, uname.machine)

    def paging_levels(self) -> int | None:
        """Return how many levels the page tables have, 4 or 5; None if that can't be told."""
        for line in _text(self.root / "proc/cpuinfo").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "flags":
                # The kernel shows the flag la57 only where it uses 5 levels.
                return 5 if "la57" in value.split() else 4
        return None

    def is_proved(self) -> bool:
        """Say whether the module is proved on this kernel. On any other it refuses to load."""
        if self.machine != "x86_64" or "PREEMPT_RT" in self.version.split():
            return False
        if self.release.endswith(LAB_SUFFIX):
            return True
        return (
            any(f" Debian {series}." in self.version for series in PROVED_SERIES)
            and self.release.endswith("-amd64")
            and not self.release.endswith("-cloud-amd64")
        )

    def obstacles(self) -> Iterator[str]:
        """Yield the reasons why the module could not be loaded, the weightiest first."""
        loads_modules = (self.root / "proc/modules").exists()
        if not loads_modules:
            yield "this kernel loads no modules: there is no /proc/modules (CONFIG_MODULES is off)"
        if _text(self.root / "proc/sys/kernel/modules_disabled") == "1":
            yield "module loading is switched off until reboot: kernel.modules_disabled is 1"
        if not self.is_proved():
            yield (
                f"{self.release} ({self.machine}) is not one of the kernels the module is proved "
                f"on, Debian's own {', '.join(PROVED_SERIES)} for amd64: it would refuse to load"
            )
        lockdown = _text(self.root / "sys/kernel/security/lockdown")
        if lockdown and "[none]" not in lockdown:
            yield f"kernel lockdown refuses unsigned modules: security/lockdown says {lockdown}"
        if _text(self.root / "sys/module/module/parameters/sig_enforce") == "Y":
            yield "the kernel loads signed modules only: module.sig_enforce is Y"
        if not self._has_capability(CAP_SYS_MODULE):
            yield "loading a module needs CAP_SYS_MODULE: run as root"
        if loads_modules and not (self.root / "lib/modules" / self.release / "build").exists():
            yield (
                f"nothing to build the module with: no /lib/modules/{self.release}/build "
                f"(package linux-headers-{self.release})"
            )

    def _has_capability(self, number: int) -> bool:
        for line in _text(self.root / "proc/self/status").splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
