# SPDX-License-Identifier: MIT
"""The module's device: opening it, and making sure that it speaks our ABI."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from cleanup import _uapi
from cleanup.errors import AbiMismatch, CallFailed, ModuleMissing, NotPermitted


class Device(NamedTuple):
    """An open device and what the module behind it can do."""

    fd: int
    features: _uapi.Features


@contextmanager
def opened() -> Iterator[Device]:
    """The device, closed at the end.

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


def checked_features(fd: int) -> _uapi.Features:
    """The module's features, if its ABI is the one this package was built for.

    Raises AbiMismatch.
    """
    try:
        features = _uapi.features(fd)
    except OSError as error:
        raise AbiMismatch(
            errno.EPROTO,
            f"{_uapi.DEVICE} does not answer as this package's module would "
            f"({error.strerror}): unload it and load the module of this version",
        ) from error
    if features.abi_version != _uapi.ABI_VERSION:
        raise AbiMismatch(
            errno.EPROTO,
            f"the loaded module speaks ABI {features.abi_version}, this package "
            f"{_uapi.ABI_VERSION}: unload it and load the module of this version",
        )
    return features


def _open_error(error: OSError) -> CallFailed:
    number = error.errno or errno.EIO
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return ModuleMissing(
            number,
            f"{_uapi.DEVICE} is not there: the kernel module is not loaded; load it as root "
            "(`make -C kmod`, `insmod pgtable_cleanup.ko`) or try it in a virtual machine "
            "(`pgtable-cleanup lab shell`); `pgtable-cleanup features` says what this host lacks",
        )
    if isinstance(error, PermissionError):
        return NotPermitted(
            number,
            f"{_uapi.DEVICE}: permission denied: run as root, or let the users in by the "
            "module's parameter mode= or a udev rule",
        )
    return CallFailed(number, f"{_uapi.DEVICE}: {os.strerror(number).lower()}")
