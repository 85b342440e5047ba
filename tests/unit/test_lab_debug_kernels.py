# SPDX-License-Identifier: MIT
"""Tests of how debug kernels are configured, and of how the build root runs commands."""

from pathlib import Path

import pytest

from cleanup.lab import BUILDS, SOURCES, LabError, buildroot, debug_kernels, get_debug_kernel
from cleanup.lab.buildroot import BuildRoot

CHECKS = {
    "KASAN",
    "PROVE_LOCKING",
    "PROVE_RCU",
    "DEBUG_ATOMIC_SLEEP",
    "DEBUG_VM",
    "PAGE_TABLE_CHECK_ENFORCED",
    "DEBUG_PAGEALLOC_ENABLE_DEFAULT",
    "PAGE_POISONING",
    "DEBUG_OBJECTS_RCU_HEAD",
    "RCU_STRICT_GRACE_PERIOD",
}
WALKERS = {"ZRAM", "NUMA", "LRU_GEN", "KSM", "USERFAULTFD", "MMU_NOTIFIER"}


@pytest.mark.parametrize("name", SOURCES)
def test_every_check_is_asked_for(name: str) -> None:
    on = {
        option
        for option, value in debug_kernels.configuration(name, "debug").items()
        if value == "y"
    }
    assert {f"CONFIG_{option}" for option in CHECKS | WALKERS} <= on
    assert "CONFIG_KCSAN" in debug_kernels.configuration(name, "kcsan")


@pytest.mark.parametrize("build", BUILDS)
def test_the_module_knows_the_name(build: str) -> None:
    release = debug_kernels.configuration("6.12", build)["CONFIG_LOCALVERSION"].strip('"')
    assert release.endswith("-pgtable-cleanup-debug")


def test_an_option_asked_for_in_two_files_is_a_slip() -> None:
    for build in BUILDS.values():
        for name in SOURCES:
            texts = [
                (debug_kernels.CONFIGS / f"{file}.config").read_text() for file in (*build, name)
            ]
            options = [option for text in texts for option in debug_kernels.options_in(text)]
            assert len(options) == len(set(options))


def test_what_the_final_configuration_lacks_is_named() -> None:
    final = debug_kernels.options_in(
        'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="text"\nCONFIG_D=m\n'
    )
    assert debug_kernels.missing({"CONFIG_A": "y", "CONFIG_C": '"text"'}, final) == []
    assert debug_kernels.missing({"CONFIG_B": "n"}, final) == []
    wanted = {"CONFIG_B": "y", "CONFIG_D": "y", "CONFIG_E": "y"}
    assert debug_kernels.missing(wanted, final) == ["CONFIG_B=y", "CONFIG_D=y", "CONFIG_E=y"]


def test_a_directory_is_no_kernel_to_rebuild(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"debug kernels are built of 6\.1, 6\.12, 7\.3"):
        get_debug_kernel(str(tmp_path), "debug")


def test_output_comes_line_by_line_and_a_failure_shows_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake bwrap runs the commands on the host."""
    fake = tmp_path / "bwrap"
    fake.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setattr(buildroot, "program", lambda _name: str(fake))
    root = BuildRoot(tmp_path)
    lines: list[str] = []
    assert root.run(["/bin/echo", "one\ntwo"], on_line=lines.append) == "one\ntwo\n"
    assert lines == ["one\n", "two\n"]
    with pytest.raises(LabError, match=r"(?s)sh -c .* failed in the build root:\nlast words"):
        root.run(["/bin/sh", "-c", "echo last words; exit 3"])
