# SPDX-License-Identifier: MIT
"""The lab: Debian's kernels in QEMU, as shipped or with checks, and the module built for them.

``get_kernel``, ``get_debug_kernel`` and ``build_module`` prepare, ``run`` boots and runs a command
in the guest.
"""

from cleanup.lab.build import build_module
from cleanup.lab.debug_kernels import BUILDS, get_debug_kernel
from cleanup.lab.errors import KernelReportError, LabError
from cleanup.lab.kernels import DEFAULT, SOURCES, Kernel, get_kernel
from cleanup.lab.runner import GuestResult, run

__all__ = [
    "BUILDS",
    "DEFAULT",
    "SOURCES",
    "GuestResult",
    "Kernel",
    "KernelReportError",
    "LabError",
    "build_module",
    "get_debug_kernel",
    "get_kernel",
    "run",
]
