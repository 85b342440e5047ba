# SPDX-License-Identifier: MIT
"""Hypothesis' settings, and a fake kernel module that replaces the bindings to the real one."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from cleanup import _uapi

# Hypothesis must not fail tests that take long on a slow host, nor keep files beside them.
settings.register_profile(
    "everywhere", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("everywhere")

FEATURES = _uapi.ModuleFeatures(
    abi_version=_uapi.ABI_VERSION,
    features=0,
    flags=_uapi.SCAN_ONLY | _uapi.WHOLE_MM,
    levels=_uapi.LEVELS["pte"],
    max_ranges=1024,
    batch=128,
    default_max_hold_ns=2_000_000,
)


@dataclass
class FakeModule:
    """A module whose every call sees `tables` PTE tables and frees `empty` of them."""

    tables: int = 10
    empty: int = 4
    holes: int = 0
    fails: Callable[[dict[str, Any]], int] = lambda _call: 0
    features: _uapi.ModuleFeatures = FEATURES
    calls: list[dict[str, Any]] = field(default_factory=list)

    def call(self, _fd: int, **arguments: Any) -> _uapi.Counts:  # noqa: ANN401
        """Answer the reclaim ioctl."""
        self.calls.append(arguments)
        skipped = [0] * len(_uapi.SKIP_REASONS)
        skipped[0] = self.tables - self.empty
        counts = _uapi.Counts(
            next_range=1 if arguments["flags"] & _uapi.WHOLE_MM else len(arguments["ranges"]),
            next_level=0,
            next_addr=0,
            holes=self.holes,
            tables=(self.tables, 0, 0),
            empty=(self.empty, 0, 0),
            freed=(0 if arguments["flags"] & _uapi.SCAN_ONLY else self.empty, 0, 0),
            zero_pages_dropped=0,
            skipped=tuple(skipped),
            flushes=1,
            longest_hold_ns=1000,
        )
        number = self.fails(arguments)
        if number:
            raise _uapi.CallError(number, counts)
        return counts


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> FakeModule:
    """Replace the device and its ioctls by a fake module, and return it."""
    fake = FakeModule()
    monkeypatch.setattr(_uapi, "open_device", lambda: os.open(os.devnull, os.O_RDWR))
    monkeypatch.setattr(_uapi, "features", lambda _fd: fake.features)
    monkeypatch.setattr(_uapi, "call", fake.call)
    return fake


@pytest.fixture
def thread() -> Iterator[int]:
    """Return the id of a thread of this process that is not its first."""
    end = threading.Event()
    waiting = threading.Thread(target=end.wait)
    waiting.start()
    assert waiting.native_id is not None
    yield waiting.native_id
    end.set()
    waiting.join()
