# SPDX-License-Identifier: MIT
"""Storms under the preload library with the module loaded, beyond those of tests/guest."""

from pathlib import Path

import pytest

import redis_storm
import storm
from allocator_shim.preloading import jemalloc_path
from storm import Length, Storms


def test_under_jemallocs_hooks_with_a_decay(length: Length, storms: Storms) -> None:
    storms[f"jemalloc,hooks:jemalloc, {storm.DECAYS[1]}"] = storm.run_preloaded(
        length,
        f"{storm.CONF},hooks:jemalloc",
        jemalloc_path(),
        above={"hook_units": 0},
        MALLOC_CONF=f"thp:never,{storm.DECAYS[1]}",
    )


@pytest.mark.parametrize("setting", redis_storm.SETTINGS)
def test_redis(tmp_path: Path, setting: str, length: Length, storms: Storms) -> None:
    storms[f"redis, {setting}, module"] = redis_storm.run_preloaded(
        tmp_path, setting, length, keys=redis_storm.FEW_KEYS
    )
