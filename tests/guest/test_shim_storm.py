# SPDX-License-Identifier: MIT
"""Storms of threads, signals and forks under the preload library, with the module loaded."""

import pytest

import storm
from allocator_shim.preloading import jemalloc_path
from storm import Length, Storms


def test_under_libcs_malloc(length: Length, storms: Storms) -> None:
    storms["libc, module"] = storm.run_preloaded(length, storm.CONF, above={"freed_pte": 10})


@pytest.mark.parametrize("conf", ["", ",hooks:jemalloc", ",hooks:jemalloc,backend:null"])
def test_under_jemalloc(length: Length, storms: Storms, conf: str) -> None:
    storms[f"jemalloc{conf}"] = storm.run_preloaded(
        length,
        f"{storm.CONF}{conf}",
        jemalloc_path(),
        # The hooks free few units: a storm seldom leaves one wholly unused.
        above={"hook_units": 0} if "hooks" in conf else {"freed_pte": 10},
        MALLOC_CONF=f"thp:never,{storm.DECAYS[0]}",
    )
