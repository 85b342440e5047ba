# SPDX-License-Identifier: MIT
"""The lab: stock Debian kernels in QEMU, with the module built for them.

``get_kernel`` and ``build_module`` prepare, ``run`` boots and runs a command in the guest.
"""

from cleanup.lab.build import build_module
from cleanup.lab.errors import KernelReportError, LabError
from cleanup.lab.kernels import DEFAULT, SOURCES, Kernel, get_kernel
from cleanup.lab.runner import GuestResult, run

__all__ = [
    "DEFAULT",
    "SOURCES",
    "GuestResult",
    "Kernel",
    "KernelReportError",
    "LabError",
    "build_module",
    "get_kernel",
    "run",
]
