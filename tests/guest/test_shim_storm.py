# SPDX-License-Identifier: MIT
"""Storms of threads, signals and forks under the preload library, with the module loaded."""

import pytest

import storm
from allocator_shim.preloading import jemalloc_path
from storm import Storms


def test_under_libcs_malloc(storm_seconds: int, storms: Storms) -> None:
    storms["libc, module"] = storm.run_preloaded(storm_seconds, storm.CONF, above={"freed_pte": 10})


@pytest.mark.parametrize("conf", ["", ",hooks:jemalloc", ",hooks:jemalloc,backend:null"])
def test_under_jemalloc(storm_seconds: int, storms: Storms, conf: str) -> None:
    storms[f"jemalloc{conf}"] = storm.run_preloaded(
        storm_seconds,
        f"{storm.CONF}{conf}",
        jemalloc_path(),
        # The hooks free few units: a storm seldom leaves one wholly unused.
        above={"hook_units": 0} if "hooks" in conf else {"freed_pte": 10},
        MALLOC_CONF=f"thp:never,{storm.DECAYS[0]}",
    )
