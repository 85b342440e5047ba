# SPDX-License-Identifier: MIT
"""Tests of the library on other platforms: an old glibc, musl, and aarch64 in an emulator."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cleanup.lab import LabError
from host import jemallocs
from host.platforms import OLDEST_GLIBC, PLATFORMS, Platform, glibc_versions
from preloaded import stats

SOURCES = Path(__file__).parent / "preload"
CONF = "backend:null,threshold:1"
UNTIMED = "backend:null,interval_ms:86400000"
THREAD = "backend:null,thread:true,interval_ms:20"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", params=PLATFORMS, ids=lambda platform: platform.name)
def platform(request: pytest.FixtureRequest) -> Platform:
    """Return a platform whose programs can be run here."""
    platform: Platform = request.param
    try:
        platform.start()
    except LabError as error:
        pytest.skip(f"{platform.name} can't be had: {error}")
    return platform


@pytest.fixture(scope="session")
def built(platform: Platform) -> Path:
    """Return the directory that has the library and the archive for the platform."""
    try:
        return platform.build()
    except LabError as error:
        pytest.skip(f"{platform.name} has no linker here: {error}")


@pytest.fixture(scope="session")
def run(platform: Platform, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that compiles a program of preload/ and runs it under the library."""
    directory = tmp_path_factory.mktemp(platform.name)

    def run(
        name: str, *arguments: str, conf: str = CONF, link: tuple[Path, ...] = ()
    ) -> "subprocess.CompletedProcess[str]":
        program = directory / name
        if not program.exists():
            platform.compile(SOURCES / f"{name}.c", program, *link)
        preload = "" if link else built / "libpgtable_cleanup.so"
        return platform.run(program, *arguments, conf=conf, preload=preload)

    return run


def succeeded(ended: "subprocess.CompletedProcess[str]") -> str:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_it_loads_and_prints_what_it_noted_and_drained(run: Run) -> None:
    """A release is noted, and the drain takes it.  Nothing else is said."""
    ended = run("messages", "none", "-", conf=f"{CONF},stats:exit")
    succeeded(ended)
    (counts,) = stats(ended.stderr)
    assert (counts["notes"], counts["drains"], counts["tried"]) == (1, 1, 1)
    assert len(ended.stderr.splitlines()) == 1


def test_releases_of_all_kinds_are_seen(run: Run) -> None:
    """These are of munmap(), mremap(), fallocate(), ftruncate() and syscall()."""
    succeeded(run("files", conf=UNTIMED))


@pytest.mark.parametrize(
    "way", ["fork", "fork by syscall", "daemon", "vfork", "threads", "last thread", "exit", "user"]
)
def test_the_thread_sees_to_each_process_and_ends(run: Run, way: str) -> None:
    if way == "user" and os.geteuid() != 0:
        pytest.skip("becoming another user takes root")
    ended = run("thread", way, conf=THREAD)
    assert succeeded(ended) == ("" if way in ("last thread", "exit") else f"{way}\n")


@pytest.mark.parametrize("way", ["syscall", "all threads", "prctl", "prctl by syscall", "strict"])
def test_a_filter_ends_it_after_a_last_drain(platform: Platform, run: Run, way: str) -> None:
    """The filter kills for any system call of the library, so its counts are printed before."""
    if platform.is_emulated:
        pytest.skip("the emulator refuses filters")
    ended = run("filter", way, conf=f"{CONF},stats:exit,thread:true,interval_ms:1")
    assert succeeded(ended) == "alive\n"
    assert [counts["drains"] for counts in stats(ended.stderr)] == [1]


@pytest.mark.parametrize("way", ["jump", "vfork"])
def test_a_drain_that_never_returns_does_not_end_all_drains(
    platform: Platform, run: Run, way: str
) -> None:
    if platform.is_emulated:
        pytest.skip("the emulator refuses the filter by which the test leaves a drain")
    succeeded(run("left", way))


def test_hooks_free_tables_in_a_program_that_has_them(
    platform: Platform, built: Path, run: Run
) -> None:
    """Threads and a fork's child use units that come and go; 32 units take their tables along."""
    if platform.is_emulated and not jemallocs.installed().frees_units():
        pytest.skip("this kernel frees no table itself, and the emulator can't move one away")
    archive = built / "libpgtable_cleanup_hooks.a"
    ended = run("hooks", conf="backend:null", link=(archive, Path("-ldl")))
    if ended.returncode == 77:
        pytest.skip(ended.stdout.strip())
    # Beside the 32, the tables above them may go.
    assert 30 <= int(succeeded(ended)) <= 34


def test_it_asks_for_no_newer_glibc(platform: Platform, built: Path) -> None:
    asked = glibc_versions(built / "libpgtable_cleanup.so")
    assert bool(asked) == ("musl" not in platform.target)
    assert all(version <= OLDEST_GLIBC for version in asked)
