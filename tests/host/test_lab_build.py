# SPDX-License-Identifier: MIT
"""Tests that unpack real packages into trees and build real modules from source."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from cleanup.lab import LabError, build_module, get_kernel, packages
from cleanup.lab.progress import Silent

MAKEFILE = "obj-m := trivial.o\nall:\n\t$(MAKE) -C $(KDIR) M=$(CURDIR) modules\n"
SOURCE = """\
#include <linux/module.h>
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("trivial");
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write the source of a module that does nothing."""
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "Makefile").write_text(MAKEFILE)
    (directory / "trivial.c").write_text(SOURCE)
    return directory


def contents(directory: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_module_is_built_once_and_outside_its_source(source: Path) -> None:
    kernel = get_kernel("6.12")
    before = contents(source)
    module = build_module(kernel, source=source)
    assert contents(source) == before
    assert f"vermagic={kernel.release} ".encode() in module.read_bytes()
    assert "trivial.o" in (module.parent / "build.log").read_text()
    made = module.stat().st_mtime_ns
    assert build_module(kernel, source=source) == module
    assert module.stat().st_mtime_ns == made
    (source / "trivial.c").write_text(SOURCE + "\n")
    assert build_module(kernel, source=source) != module


def test_what_the_compiler_says_is_shown(source: Path) -> None:
    (source / "trivial.c").write_text(SOURCE + "int broken(void) { return missing; }\n")
    with pytest.raises(LabError, match=r"(?s)trivial\.c:4.*missing"):
        build_module(get_kernel("6.12"), source=source)


def test_a_signed_package_becomes_a_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tree = tmp_path / "tree"
    tree.mkdir()
    with packages.Apt.locked(["trixie"], Silent()) as apt:
        (package,) = [p for p in apt.resolve("trixie", ["hostname"]) if p.name == "hostname"]
        # The file is what an interrupted download leaves.
        broken = (
            tmp_path / f"cache/pgtable-cleanup/apt/packages/hostname_{package.version}_amd64.deb"
        )
        broken.parent.mkdir()
        broken.write_bytes(b"!<arch>\n")
        apt.unpack("hostname", [package], tree)
    assert (tree / "usr/bin/hostname").stat().st_size > 0


def test_an_unsigned_mirror_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "dists/trixie/main/binary-amd64").mkdir(parents=True)
    (mirror / "dists/trixie/main/binary-amd64/Packages").touch()
    (mirror / "dists/trixie/Release").write_text(
        "Origin: Debian\nSuite: stable\nCodename: trixie\nComponents: main\nArchitectures: amd64\n"
        "Date: Thu, 01 Jan 2026 00:00:00 UTC\n"
    )
    monkeypatch.setenv("PGTABLE_CLEANUP_MIRROR", f"file:{mirror}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(LabError, match="not signed"), packages.Apt.locked(["trixie"], Silent()):
        pass
