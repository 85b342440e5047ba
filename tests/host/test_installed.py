# SPDX-License-Identifier: MIT
"""What is installed: the wheel's names, and the data that it must carry."""

from importlib import metadata, resources
from pathlib import Path, PurePath

ROOT = Path(__file__).parents[2]


def test_top_level_names() -> None:
    files = metadata.files("pgtable-cleanup")
    assert files
    names = {file.parts[0] for file in files if file.parts[0] != ".."}
    assert {name for name in names if not name.endswith(".dist-info")} <= {
        "allocator_shim",
        "cleanup",
    }
    scripts = {file.name for file in files if file.parts[0] == ".."}
    assert scripts == {"pgtable-cleanup"}


def test_the_modules_source_is_complete_and_clean() -> None:
    installed = resources.files("cleanup") / "kmod_source"
    assert isinstance(installed, Path)
    names = {path.relative_to(installed) for path in installed.rglob("*") if path.is_file()}
    source = ROOT / "kmod"
    wanted = {
        path.relative_to(source)
        for path in source.rglob("*")
        if path.is_file()
        and (path.suffix in {".c", ".h"} or path.name in {"Makefile", "Kbuild"})
        and not path.name.endswith(".mod.c")
    }
    assert names == wanted
    assert PurePath("include/uapi/pgtable_cleanup.h") in names
    for name in names:
        assert (installed / name).read_bytes() == (source / name).read_bytes()


def test_experiments_are_a_part_of_the_package() -> None:
    assert (resources.files("cleanup") / "experiments" / "__init__.py").is_file()
    assert (resources.files("cleanup") / "py.typed").is_file()
