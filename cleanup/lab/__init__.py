# SPDX-License-Identifier: MIT
"""The lab: Debian's kernels in QEMU, as shipped or with checks, and the module built for them.

``get_kernel`` downloads a kernel, ``get_debug_kernel`` builds one with checks, ``build_module``
builds the module, and ``boot`` boots a guest that runs commands.
"""

from cleanup.lab.booting import boot
from cleanup.lab.build import build_module
from cleanup.lab.debug_kernels import BUILDS, get_debug_kernel
from cleanup.lab.errors import KernelNotServed, KernelReportError, LabError
from cleanup.lab.guest import Guest, GuestResult
from cleanup.lab.kernels import DEFAULT, SOURCES, Kernel, get_kernel
from cleanup.lab.machine import Machine
from cleanup.lab.pool import Pool

__all__ = [
    "BUILDS",
    "DEFAULT",
    "SOURCES",
    "Guest",
    "GuestResult",
    "Kernel",
    "KernelNotServed",
    "KernelReportError",
    "LabError",
    "Machine",
    "Pool",
    "boot",
    "build_module",
    "get_debug_kernel",
    "get_kernel",
]
