# SPDX-License-Identifier: MIT
"""The failures that a user can expect to meet. Each says what failed, and what to do next."""

import errno
import os
from typing import Any

from cleanup.result import Result


class CleanupError(Exception):
    """An expected failure.

    `str(error)` is fit to be shown as it is: `message`, which says what failed, and behind it
    `hint`, which says what to do next. `hint` is None where the message says it all.
    """

    def __init__(self, *arguments: object, hint: str | None = None) -> None:
        super().__init__(*arguments)
        self.hint = hint

    @property
    def message(self) -> str:
        """What failed, without the hint."""
        return super().__str__()

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}" if self.hint else self.message

    def to_json(self) -> dict[str, str | None]:
        """Return `message`, `errno` by its name (None for a failure without one) and `hint`."""
        number = getattr(self, "errno", None)
        name = None if number is None else errno.errorcode.get(number, str(number))
        return {"message": self.message, "errno": name, "hint": self.hint}


class CallFailed(CleanupError, OSError):
    """A scan or a reclaim failed.

    `errno` is the kernel's. `result` is what had been done by then, and None if nothing was begun.
    """

    def __init__(
        self, number: int, message: str, result: Result | None = None, *, hint: str | None = None
    ) -> None:
        super().__init__(number, message, hint=hint)
        self.result = result

    @property
    def message(self) -> str:
        """What failed, without the errno and the hint."""
        return str(self.strerror)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.errno, self.strerror, self.result), {"hint": self.hint}


class ModuleMissing(CallFailed, FileNotFoundError):
    """The module is not loaded: its device answers ENOENT, ENODEV or ENXIO."""


class AbiMismatch(CallFailed):
    """The loaded module speaks another ABI than this package, or isn't this project's (EPROTO)."""


class NotPermitted(CallFailed, PermissionError):
    """The caller may not touch that process.

    EPERM: another process needs CAP_SYS_NICE. EACCES: the caller may not ptrace it, or may not open
    the module's device.
    """


class ProcessGone(CallFailed, ProcessLookupError):
    """The process has exited, or never was (ESRCH)."""


class Unmapped(CallFailed):
    """The ranges have unmapped holes (ENOMEM). All the rest is done: see `result`."""


class Contended(CallFailed):
    """There are empty tables, and other work on the address space blocked all of them (EAGAIN)."""


def no_such_process(pid: int) -> ProcessGone:
    """Return the exception for a pid that names no process."""
    return ProcessGone(errno.ESRCH, f"pid {pid}: no such process")


def from_errno(number: int, what: str, result: Result | None) -> CallFailed:
    """Return the exception for an errno of the reclaim ioctl; `what` names the target."""
    if number == errno.EPERM:
        message = f"{what}: another process needs CAP_SYS_NICE in its user namespace"
        return NotPermitted(number, message, result, hint="run as root")
    if number == errno.EACCES:
        message = f"{what}: ptrace access denied"
        return NotPermitted(number, message, result, hint="run as its user or as root")
    if number == errno.ESRCH:
        message = f"{what}: no address space: it has exited, or is a kernel thread"
        return ProcessGone(number, message, result)
    if number == errno.ENOMEM and result is not None and result.holes:
        message = f"{what}: part of the range is not mapped; the mapped rest is done"
        return Unmapped(number, message, result)
    if number == errno.EAGAIN:
        message = f"{what}: every empty table was blocked by other work on the address space"
        return Contended(number, message, result, hint="try again")
    return CallFailed(number, f"{what}: {os.strerror(number).lower()}", result)
