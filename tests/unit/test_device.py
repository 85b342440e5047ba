# SPDX-License-Identifier: MIT
"""Tests of opening the device: each failure has its exception, errno and advice."""

import errno
import os
from pathlib import Path

import pytest

import cleanup
from cleanup import _uapi, device


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV, errno.ENXIO])
def test_no_module(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail() -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_uapi, "open_device", fail)
    with pytest.raises(cleanup.ModuleMissing, match="insmod") as caught:
        cleanup.scan()
    assert caught.value.errno == number
    assert isinstance(caught.value, FileNotFoundError)


def test_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(_uapi, "open_device", fail)
    with pytest.raises(cleanup.NotPermitted, match="mode=") as caught:
        cleanup.scan()
    assert caught.value.errno == errno.EACCES
    assert isinstance(caught.value, PermissionError)


def test_another_device() -> None:
    fd = os.open(os.devnull, os.O_RDWR)
    try:
        with pytest.raises(cleanup.AbiMismatch, match="does not answer") as caught:
            device.checked_features(fd)
    finally:
        os.close(fd)
    assert caught.value.errno == errno.EPROTO


def test_another_abi(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = _uapi.ModuleFeatures(_uapi.ABI_VERSION + 1, 0, 0, 0, 0, 0, 0)
    monkeypatch.setattr(_uapi, "features", lambda _fd: answer)
    with pytest.raises(cleanup.AbiMismatch, match=f"speaks ABI {_uapi.ABI_VERSION + 1}"):
        device.checked_features(-1)


def test_the_device_is_closed_on_a_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_uapi, "open_device", lambda: os.open(os.devnull, os.O_RDWR))
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(cleanup.AbiMismatch):
        cleanup.scan()
    assert set(Path("/proc/self/fd").iterdir()) == before
