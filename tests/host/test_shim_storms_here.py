# SPDX-License-Identifier: MIT
"""Threads, signals and forks at once under the library; its core under sanitizers."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from cleanup.commands.exec import jemalloc_path
from preloaded import SHIM

pytestmark = pytest.mark.host

ROOT = Path(__file__).parents[2]
STORM = ROOT / "build/python/storm"
# Every release is looked at, by whoever made it and by a thread of the library's own.
CONF = "backend:null,threshold:1,interval_ms:1,thread:true,stats:exit"
SEED = 1
SANITIZERS = {"address,undefined": "libasan.so", "thread": "libtsan.so"}
CORE_TESTS = ("test_shim_units.py", "test_shim_conf.py", "test_jemalloc_hooks.py")


@pytest.fixture(scope="session")
def seconds(pytestconfig: pytest.Config) -> int:
    found: int = pytestconfig.getoption("--storm-seconds")
    return found


def storm(program: Path, seconds: int, env: dict[str, str]) -> dict[str, int]:
    """What it did and what the library did; where it ends by itself, and has lost no byte."""
    ended = subprocess.run(
        [program, str(seconds), str(SEED)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "lost=0" in ended.stdout
    found = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", ended.stdout)}
    assert min(found[name] for name in ("steps", "signals", "forks", "spawns")) > 0
    of_library = re.findall(r"(\w+)=(\d+)", ended.stderr)
    return {name: int(value) for name, value in of_library} | found


def test_under_libcs_malloc(seconds: int) -> None:
    found = storm(STORM, seconds, {"LD_PRELOAD": SHIM, "PGTABLE_CLEANUP_CONF": CONF})
    assert found["drains"] > 1000


@pytest.mark.parametrize("malloc_conf", ["dirty_decay_ms:0,muzzy_decay_ms:0", "dirty_decay_ms:50"])
def test_under_jemallocs_hooks(seconds: int, malloc_conf: str) -> None:
    found = storm(
        STORM,
        seconds,
        {
            "LD_PRELOAD": f"{SHIM} {jemalloc_path()}",
            "PGTABLE_CLEANUP_CONF": f"{CONF},hooks:jemalloc",
            "MALLOC_CONF": f"thp:never,{malloc_conf}",
        },
    )
    assert found["drains"] > 1000
    assert found["hook_units"] > 0


@pytest.fixture(scope="session", params=list(SANITIZERS))
def sanitized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The core, its tests' extensions and the storm, built for a sanitizer."""
    build = tmp_path_factory.mktemp("sanitized")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    scripts = sysconfig.get_path("scripts")
    for command in (
        # Python itself is not built for it: names of the sanitizer's are open until it runs.
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
        ["ninja", "-C", str(build), f"_shim{suffix}", f"_hooks{suffix}", "storm_inside"],
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


def test_the_storm_under_sanitizers(sanitized: Path, seconds: int) -> None:
    found = storm(sanitized / "storm_inside", seconds, {"PGTABLE_CLEANUP_CONF": CONF})
    assert found["drains"] > 500


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
            *(str(ROOT / "tests/unit" / name) for name in CORE_TESTS),
        ],
        cwd=ROOT,
        # Python keeps what it has until its end.
        env={**os.environ, "LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"\b[3-9]\d passed", ended.stdout), ended.stdout
