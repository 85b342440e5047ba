# SPDX-License-Identifier: MIT
"""Tests of what is installed: the wheel's names, and the data that it must carry."""

import os
import platform
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path, PurePath

import pytest

import allocator_shim
import cleanup
import experiments
from host.platforms import OLDEST_GLIBC, glibc_versions

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel to publish: it lacks the experiments that the checkout's build has."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, ROOT / "tools/wheel.py", out], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment that has the wheel, its dependencies, and nothing else."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    subprocess.run(
        [
            *[sys.executable, "-m", "pip", f"--python={environment}/bin/python"],
            *["install", "--quiet", str(wheel)],
        ],
        check=True,
    )
    return environment


def _with_scripts() -> dict[str, str]:
    """Return an environment in which Meson finds Cython and ninja."""
    return {**os.environ, "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"}


def test_the_wheel_carries_the_product_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [PurePath(name) for name in archive.namelist()]
    tops = {name.parts[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"allocator_shim", "cleanup"}
    for name in (
        "allocator_shim/libpgtable_cleanup.so",
        "allocator_shim/py.typed",
        "cleanup/py.typed",
    ):
        assert PurePath(name) in names


def test_the_wheel_runs_on_any_linux_that_has_its_glibc(wheel: Path, tmp_path: Path) -> None:
    """No library in it asks for a symbol that glibc 2.28 lacks, and its tag says so."""
    assert wheel.stem.endswith(f"-manylinux_2_28_{platform.machine()}")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    libraries = sorted(tmp_path.rglob("*.so"))
    asked = {path.name.partition(".")[0]: glibc_versions(path) for path in libraries}
    assert {"libpgtable_cleanup", "_conf", "_uapi", "jemalloc", "preloaded"} <= set(asked)
    for versions in asked.values():
        assert versions
        assert all(version <= OLDEST_GLIBC for version in versions)


def test_the_modules_source_is_complete_and_clean(wheel: Path) -> None:
    carried = PurePath("cleanup/kmod_source")
    with zipfile.ZipFile(wheel) as archive:
        contents = {
            PurePath(name).relative_to(carried): archive.read(name)
            for name in archive.namelist()
            if PurePath(name).is_relative_to(carried) and not name.endswith("/")
        }
    source = ROOT / "kmod"
    assert contents == {
        path.relative_to(source): path.read_bytes()
        for path in source.rglob("*")
        if path.is_file()
        and (path.suffix in {".c", ".h"} or path.name in {"Makefile", "Kbuild"})
        and not path.name.endswith(".mod.c")
    }
    assert PurePath("include/uapi/pgtable_cleanup.h") in contents


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["features", "--json"],
        ["scan", "--help"],
        ["exec", "--conf", "backend:null", "--", "true"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_wheel_works_without_the_experiments(installed: Path, arguments: list[str]) -> None:
    without: list[Path | str] = [installed / "bin/python", "-c", "import matplotlib"]
    assert subprocess.run(without, capture_output=True, check=False).returncode == 1
    ran = subprocess.run(
        [installed / "bin/pgtable-cleanup", *arguments], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_scan_by_the_wheel_says_what_the_host_lacks(installed: Path) -> None:
    """Without the module, the wheel's scan fails with a message, not with a stack trace."""
    ran = subprocess.run(
        [installed / "bin/pgtable-cleanup", "scan", str(os.getpid())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == (0 if Path("/dev/pgtable_cleanup").exists() else 1)
    assert "Traceback" not in ran.stderr


def test_experiments_elsewhere_say_how_to_get_them(installed: Path) -> None:
    ran = subprocess.run(
        [installed / "bin/pgtable-cleanup", "experiment", "list"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1
    assert "checkout" in ran.stderr


def test_the_import_path_is_the_trees_path() -> None:
    for package in (allocator_shim, cleanup, experiments):
        assert package.__file__ == str(ROOT / package.__name__ / "__init__.py")


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


def test_the_wheel_has_what_a_c_program_includes(installed: Path, tmp_path: Path) -> None:
    include = subprocess.run(
        [
            installed / "bin/python",
            "-P",
            "-c",
            "import allocator_shim as a; print(a.get_include())",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert Path(include).is_relative_to(installed)
    source = tmp_path / "program.c"
    source.write_text(PROGRAM)
    subprocess.run(["cc", "-Wall", "-Werror", "-fsyntax-only", f"-I{include}", source], check=True)
    assert {path.name for path in Path(include).iterdir()} == {
        path.name for path in allocator_shim.get_include().iterdir()
    }


def test_for_c_without_python(tmp_path: Path) -> None:
    """Plain Meson installs the library, its headers, and a .pc file that says where they are."""
    env = _with_scripts()
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
        "include/pgtable_cleanup_hooks.h",
        "include/pgtable_cleanup_madvise.h",
        "include/pgtable_cleanup_shim.h",
        "lib/libpgtable_cleanup.so",
        "lib/libpgtable_cleanup_hooks.a",
        "lib/pkgconfig/pgtable-cleanup-hooks.pc",
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
