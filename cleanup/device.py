# SPDX-License-Identifier: MIT
"""Opens the module's device, and makes sure that the module speaks the ABI of this package."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from cleanup import _uapi
from cleanup.errors import AbiMismatch, CallFailed, ModuleMissing, NotPermitted

RELOAD = "unload it and load the module of this version"


class Device(NamedTuple):
    """An open device, and what the module behind it can do."""

    fd: int
    features: _uapi.ModuleFeatures


@contextmanager
def opened() -> Iterator[Device]:
    """Open the device for the length of a `with` statement.

    Raises ModuleMissing, AbiMismatch, NotPermitted, CallFailed.
    """
    try:
        fd = _uapi.open_device()
    except OSError as error:
        raise _open_error(error) from error
    try:
        yield Device(fd, checked_features(fd))
    finally:
        os.close(fd)


def checked_features(fd: int) -> _uapi.ModuleFeatures:
    """Return what the module can do. Raises AbiMismatch unless it speaks this package's ABI."""
    try:
        features = _uapi.features(fd)
    except OSError as error:
        raise AbiMismatch(
            errno.EPROTO,
            f"{_uapi.DEVICE} does not answer as this package's module would ({error.strerror})",
            hint=RELOAD,
        ) from error
    if features.abi_version != _uapi.ABI_VERSION:
        raise AbiMismatch(
            errno.EPROTO,
            f"the loaded module speaks ABI {features.abi_version}, this package "
            f"{_uapi.ABI_VERSION}",
            hint=RELOAD,
        )
    return features


def _open_error(error: OSError) -> CallFailed:
    number = error.errno or errno.EIO
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return ModuleMissing(
            number,
            f"{_uapi.DEVICE} is not there: the kernel module is not loaded",
            hint="load it as root (`make -C kmod`, `insmod pgtable_cleanup.ko`) or try it in a "
            "virtual machine (`pgtable-cleanup lab shell`); `pgtable-cleanup features` says what "
            "this host lacks",
        )
    if isinstance(error, PermissionError):
        return NotPermitted(
            number,
            f"{_uapi.DEVICE}: permission denied",
            hint="run as root, or let the users in by the module's parameter mode= or a udev rule",
        )
    return CallFailed(number, f"{_uapi.DEVICE}: {os.strerror(number).lower()}")
