# SPDX-License-Identifier: MIT
"""Tests of the library under threads, signals and forks at once, and of its core by sanitizers."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import broken
import storm
from allocator_shim.preloading import jemalloc_path
from storm import Length, Storms

ROOT = Path(__file__).parents[2]
CONF = f"backend:null,{storm.CONF}"
SANITIZERS = {"address,undefined": "libasan.so", "thread": "libtsan.so"}
CORE_TESTS = ("test_shim_units.py", "test_shim_conf.py", "test_jemalloc_hooks.py")


def test_under_libcs_malloc(length: Length, storms: Storms) -> None:
    storms["libc"] = storm.run_preloaded(length, CONF, above={"drains": 1000})


@pytest.mark.parametrize("malloc_conf", storm.DECAYS)
def test_under_jemallocs_hooks(length: Length, storms: Storms, malloc_conf: str) -> None:
    storms[f"jemalloc, hooks, {malloc_conf}"] = storm.run_preloaded(
        length,
        f"{CONF},hooks:jemalloc",
        jemalloc_path(),
        above={"drains": 1000, "hook_units": 0},
        MALLOC_CONF=f"thp:never,{malloc_conf}",
    )


def test_a_storm_notices_memory_that_is_not_zero(tmp_path: Path) -> None:
    """With hooks that promise zeros for memory that they keep, calloc() gives old bytes."""
    library = broken.build(broken.ZEROS, tmp_path)
    assert storm.noticed(broken.once(library, broken.ZEROS, Length(2, 1)))


@pytest.fixture(scope="session", params=list(SANITIZERS))
def sanitized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the library's core, the extensions that test it, and the storm for a sanitizer."""
    build = tmp_path_factory.mktemp("sanitized")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    scripts = sysconfig.get_path("scripts")
    for command in (
        # Python is built without the sanitizer, whose symbols stay undefined until run time.
        [
            *[
                "meson",
                "setup",
                "-Dtests=true",
                "-Db_lundef=false",
                f"-Db_sanitize={request.param}",
            ],
            *[str(build), str(ROOT)],
        ],
        [
            *["ninja", "-C", str(build), "storm_inside"],
            *(f"{extension}{suffix}" for extension in ("_hooks", "_libc", "_shim")),
        ],
    ):
        done = subprocess.run(
            command,
            env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    (build / "sanitizer").write_text(SANITIZERS[request.param])
    return build


def test_the_storm_under_sanitizers(sanitized: Path, length: Length) -> None:
    conf = {"PGTABLE_CLEANUP_CONF": CONF}
    storm.run(sanitized / "storm_inside", length, conf, {"drains": 500})


def test_the_cores_tests_under_sanitizers(sanitized: Path) -> None:
    library = subprocess.run(
        ["cc", f"-print-file-name={(sanitized / 'sanitizer').read_text()}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    ended = subprocess.run(
        [
            *[sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"],
            *["-o", f"pythonpath=tests {sanitized}"],
            # The sanitizers' mlock() locks nothing, so these tests would fail.
            *["-k", "not locked_memory"],
            *(str(ROOT / "tests/unit" / name) for name in CORE_TESTS),
        ],
        cwd=ROOT,
        # Python doesn't free all of its memory at its end, which is no leak.
        env={**os.environ, "LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"\b[3-9]\d passed", ended.stdout), ended.stdout
