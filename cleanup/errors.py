# SPDX-License-Identifier: MIT
"""The failures a user can expect to meet, each with a message that says what to do next."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cleanup.result import Result


class CleanupError(Exception):
    """An expected failure; its text is fit to be shown as it is."""


class CallFailed(CleanupError, OSError):
    """A scan or reclaim that failed.

    `errno` is the kernel's; `result` is what had been done by then, or None if nothing was begun.
    """

    def __init__(self, number: int, message: str, result: Result | None = None) -> None:
        super().__init__(number, message)
        self.result = result

    def __str__(self) -> str:
        return str(self.strerror)


class ModuleMissing(CallFailed, FileNotFoundError):
    """The module is not loaded (ENOENT, ENODEV or ENXIO from its device)."""


class AbiMismatch(CallFailed):
    """The module loaded speaks another ABI than this package (EPROTO), or is no such module."""


class NotPermitted(CallFailed, PermissionError):
    """EPERM: another process, without CAP_SYS_NICE. EACCES: it may not be ptraced by the caller."""


class ProcessGone(CallFailed, ProcessLookupError):
    """ESRCH: the target has exited, or never was."""


class Unmapped(CallFailed):
    """ENOMEM: the ranges have unmapped holes. All the rest is done: see `result`."""


class Contended(CallFailed):
    """EAGAIN: there are empty tables, and other work on the address space blocked all of them."""


def from_errno(number: int, what: str, result: Result | None) -> CallFailed:
    """The exception for an errno of the reclaim ioctl; `what` names the target."""
    if number == errno.EPERM:
        return NotPermitted(
            number,
            f"{what}: another process needs CAP_SYS_NICE in its user namespace: run as root",
            result,
        )
    if number == errno.EACCES:
        return NotPermitted(
            number,
            f"{what}: ptrace access denied: run as its user or as root",
            result,
        )
    if number == errno.ESRCH:
        return ProcessGone(
            number, f"{what}: no address space: it has exited, or is a kernel thread", result
        )
    if number == errno.ENOMEM and result is not None and result.holes:
        return Unmapped(
            number, f"{what}: part of the range is not mapped; the mapped rest is done", result
        )
    if number == errno.EAGAIN:
        return Contended(
            number,
            f"{what}: every empty table was blocked by other work on the address space: try again",
            result,
        )
    return CallFailed(number, f"{what}: {os.strerror(number).lower()}", result)
