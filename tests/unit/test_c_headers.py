# SPDX-License-Identifier: MIT
"""Tests that the C headers compile from a checkout, under several standards of C and C++."""

import errno
import shutil
import subprocess
from pathlib import Path

import pytest

import allocator_shim
from cleanup import _uapi

INCLUDE = allocator_shim.get_include()
PROGRAM = """
#include <stdio.h>
#include <pgtable_cleanup_madvise.h>
#include <pgtable_cleanup_shim.h>

int main(void)
{
	static char memory[3 * 4096];
	char *page = memory + (4096 - (size_t)memory % 4096) % 4096;

	if (pgtable_cleanup_drain)
		pgtable_cleanup_drain();
	/* No kernel refuses this; and 0x7fffffff, no kernel knows. */
	if (pgtable_cleanup_madvise(page, 4096, 0 /* MADV_NORMAL */))
		return 1;
	if (pgtable_cleanup_madvise(page, 4096, 0x7fffffff) != -1 || errno != EINVAL)
		return 2;
	errno = 0;
	if (pgtable_cleanup_probe() < 0 || errno)
		return 3;
	printf("%x %x\\n", O_CLOEXEC, MADV_CLEANUP_PGTABLE);
	return 0;
}
"""
STANDARDS = ["c99", "c11", "gnu11", "gnu17", "c++11", "gnu++20"]


@pytest.mark.parametrize("standard", STANDARDS)
def test_the_headers_compile(standard: str, tmp_path: Path) -> None:
    program = compiled(PROGRAM, tmp_path, f"-std={standard}", "-pedantic")
    ran = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "80000 50544331\n")


def compiled(code: str, directory: Path, *flags: str) -> Path:
    """Compile a program, in C++ if a flag says so."""
    cpp = any("++" in flag for flag in flags)
    compiler = shutil.which("c++" if cpp else "cc")
    assert compiler, "make builds with it"
    source = directory / ("program.cc" if cpp else "program.c")
    source.write_text(code)
    program = directory / "program"
    done = subprocess.run(
        [compiler, *flags, "-Wall", "-Wextra", "-Werror", f"-I{INCLUDE}", "-o", program, source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return program


def said(program: Path, *, preload: bool) -> str:
    """Run a program, with the library or without it, and return what it prints."""
    conf = "backend:null,interval_ms:86400000,threshold:1048576"
    env = {"LD_PRELOAD": str(allocator_shim.shim_path()), "PGTABLE_CLEANUP_CONF": conf}
    ran = subprocess.run(
        [program], env=env if preload else {}, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


SEEN = """
#include <stdio.h>
#include <pgtable_cleanup_shim.h>

static size_t (*conf)(char *, size_t);

int main(void)
{
	conf = pgtable_cleanup_conf;
	printf("%d%d%d%d\\n", pgtable_cleanup_version != NULL, pgtable_cleanup_drain != NULL,
		pgtable_cleanup_stats != NULL, conf != NULL);
	if (pgtable_cleanup_version)
		printf("%d\\n", pgtable_cleanup_version() == PGTABLE_CLEANUP_SHIM_VERSION);
	return 0;
}
"""


@pytest.mark.parametrize("optimized", ["-O0", "-O2"])
@pytest.mark.parametrize(
    "flags",
    [["-fpie", "-pie"], ["-fno-pie", "-no-pie"], ["-fno-pie", "-no-pie", "-std=c++17"]],
    ids=" ".join,
)
def test_any_program_sees_the_library(flags: list[str], optimized: str, tmp_path: Path) -> None:
    """Programs that are not position-independent see the library's functions, too."""
    program = compiled(SEEN, tmp_path, optimized, *flags)
    assert said(program, preload=True) == "1111\n1\n"
    assert said(program, preload=False) == "0000\n"


DRAINS = """
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <pgtable_cleanup_shim.h>

int main(void)
{
	char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int first, second, third;

	first = pgtable_cleanup_drain();
	madvise(page, 4096, MADV_DONTNEED);
	second = pgtable_cleanup_drain();
	third = pgtable_cleanup_drain();
	printf("%d %d %d\\n", first, second, third);
	return 0;
}
"""
NEWER = """
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <pgtable_cleanup_shim.h>

int main(void)
{
	struct {
		struct pgtable_cleanup_stats known;
		unsigned char more[64];
	} stats;
	struct {
		uint64_t notes;
		unsigned char beyond[8];
	} older;
	char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t i, set = 0;

	madvise(page, 4096, MADV_DONTNEED);
	memset(&stats, 0xff, sizeof(stats));
	memset(&older, 0xff, sizeof(older));
	if (pgtable_cleanup_stats(&stats.known, sizeof(stats)))
		return 1;
	if (pgtable_cleanup_stats((struct pgtable_cleanup_stats *)&older, sizeof(older.notes)))
		return 2;
	for (i = 0; i < sizeof(stats.more); i++)
		set += stats.more[i] != 0;
	printf("%d %d %d %d\\n", (int)stats.known.notes, (int)set, (int)older.notes,
		older.beyond[0]);
	return 0;
}
"""


def test_drain_says_whether_it_looked_at_anything(tmp_path: Path) -> None:
    assert said(compiled(DRAINS, tmp_path), preload=True) == "0 1 0\n"


def test_a_caller_of_another_version_gets_the_counts(tmp_path: Path) -> None:
    """A newer caller gets zeros for what the library lacks; an older one, what it has room for."""
    program = compiled(NEWER, tmp_path, "-Wno-stringop-overflow", "-Wno-array-bounds")
    assert said(program, preload=True) == "1 0 1 255\n"


PROBES = """
#include <stdio.h>
#include <pgtable_cleanup_madvise.h>

int main(void)
{
	static char memory[2 * 4096];
	char *page = memory + (4096 - (size_t)memory % 4096) % 4096;
	int aligned = pgtable_cleanup_madvise(page, 4096, MADV_CLEANUP_PGTABLE) ? errno : 0;
	int misaligned = pgtable_cleanup_madvise(page + 1, 4096, MADV_CLEANUP_PGTABLE) ? errno : 0;

	printf("%d %d %d\\n", pgtable_cleanup_probe(), aligned, misaligned);
	return 0;
}
"""


@pytest.mark.skipif(Path(_uapi.DEVICE).exists(), reason="the module is loaded")
def test_a_probe_tells_why_the_call_is_invalid(tmp_path: Path) -> None:
    """The call fails by EINVAL where nobody knows the advice, and also for a wrong range."""
    program = compiled(PROBES, tmp_path)
    assert said(program, preload=True) == f"0 0 {errno.EINVAL}\n"
    assert said(program, preload=False) == f"{errno.ENOENT} {errno.EINVAL} {errno.EINVAL}\n"
