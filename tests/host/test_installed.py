# SPDX-License-Identifier: MIT
"""What is installed: the wheel's names, and the data that it must carry."""

import os
import re
import subprocess
import sysconfig
from importlib import metadata, resources
from pathlib import Path, PurePath

import allocator_shim

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


def test_the_wheel_carries_the_library() -> None:
    files = metadata.files("pgtable-cleanup")
    assert files
    for syscall in (False, True):
        path = allocator_shim.shim_path(syscall=syscall)
        assert path.is_file()
        assert PurePath("allocator_shim") / path.name in [PurePath(file) for file in files]


PROGRAM = """\
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <pgtable_cleanup_madvise.h>
#include <pgtable_cleanup_shim.h>

int main(void)
{
	struct pgtable_cleanup_stats stats = { 0 };
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	madvise(page, 4096, MADV_DONTNEED);
	if (pgtable_cleanup_stats && pgtable_cleanup_stats(&stats, sizeof(stats)))
		return 1;
	printf("%d %d\\n", pgtable_cleanup_drain != NULL, stats.notes > 0);
	return 0;
}
"""


def test_for_c_without_python(tmp_path: Path) -> None:
    """Library, headers and .pc file by plain Meson; a program finds the library where it is."""
    scripts = sysconfig.get_path("scripts")
    env = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"}
    build, prefix = tmp_path / "build", tmp_path / "prefix"
    for command in (
        [
            "meson",
            "setup",
            "-Dpython=false",
            f"--prefix={prefix}",
            "--libdir=lib",
            str(build),
            str(ROOT),
        ],
        ["meson", "install", "--quiet", "-C", str(build)],
    ):
        subprocess.run(command, env=env, check=True, capture_output=True)
    installed = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file()}
    assert installed == {
        "include/pgtable_cleanup.h",
        "include/pgtable_cleanup_madvise.h",
        "include/pgtable_cleanup_shim.h",
        "lib/libpgtable_cleanup.so",
        "lib/libpgtable_cleanup_syscall.so",
        "lib/pkgconfig/pgtable-cleanup.pc",
    }
    described = (prefix / "lib/pkgconfig/pgtable-cleanup.pc").read_text(encoding="utf-8")
    assert "Cflags: -I${includedir}\n" in described
    preload = re.search(r"^preload=\$\{libdir\}/(.*)$", described, re.MULTILINE)
    assert preload
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(PROGRAM)
    subprocess.run(
        ["cc", "-Wall", "-Werror", f"-I{prefix}/include", "-o", program, source], check=True
    )
    for library, said in (("", "0 0\n"), (str(prefix / "lib" / preload[1]), "1 1\n")):
        ran = subprocess.run(
            [program],
            env={"LD_PRELOAD": library, "PGTABLE_CLEANUP_CONF": "backend:null"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout == said
