# SPDX-License-Identifier: MIT
"""Tests of which guests a pool hands out; the guests are faked."""

from pathlib import Path

import pytest

from cleanup.lab import Guest, Kernel, KernelReportError, Machine, Pool, pool
from cleanup.lab.machine import Emulator

KERNELS = [Kernel(f"6.{n}", f"6.{n}.1", Path(), Path(), Path()) for n in range(6)]


class FakeGuest(Guest):
    """A guest without a QEMU; `fault` is what its kernel reports as it shuts down."""

    fault = ""

    def close(self) -> None:
        """End as a guest does when it is powered off."""
        self.end("it was closed")
        if self.fault:
            raise KernelReportError(self.fault, [self.fault])


@pytest.fixture
def booted(monkeypatch: pytest.MonkeyPatch) -> list[Guest]:
    """Return the guests that are booted, in the order of their boots."""
    guests: list[Guest] = []

    def boot(kernel: Kernel, machine: Machine, **_options: object) -> Guest:
        emulator = Emulator((10,), "tcg")
        guests.append(FakeGuest(kernel, machine, emulator, writable=None, check_dmesg=True))
        return guests[-1]

    monkeypatch.setattr(pool, "boot", boot)
    return guests


def test_equal_machines_share_a_guest(booted: list[Guest]) -> None:
    with Pool() as guests:
        one = guests.guest(KERNELS[0], Machine(cpus=3))
        assert guests.guest(KERNELS[0], Machine(cpus=3)) is one
        assert guests.guest(KERNELS[0], Machine()) is not one
        assert guests.guest(KERNELS[1], Machine(cpus=3)) is not one
    assert len(booted) == 3
    assert all(guest.ended for guest in booted)


def test_a_guest_that_has_ended_is_not_handed_out_again(booted: list[Guest]) -> None:
    with Pool() as guests:
        guests.guest(KERNELS[0]).end("its kernel reported a bug")
        assert guests.guest(KERNELS[0]).ended is None
    assert len(booted) == 2


def test_the_guest_that_was_not_used_for_longest_makes_room(booted: list[Guest]) -> None:
    with Pool() as guests:
        for number in (0, 1, 2, 3, 0, 4):
            guests.guest(KERNELS[number])
        ended = [guest.kernel.name for guest in booted if guest.ended]
        assert ended == ["6.1"]


def test_all_are_closed_though_one_reports_a_bug(booted: list[Guest]) -> None:
    with pytest.raises(KernelReportError, match="BUG"), Pool() as guests:  # noqa: PT012
        for kernel in KERNELS[:3]:
            guests.guest(kernel)
        assert isinstance(booted[1], FakeGuest)
        booted[1].fault = "BUG"
    assert all(guest.ended for guest in booted)
