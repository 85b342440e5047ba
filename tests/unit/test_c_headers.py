# SPDX-License-Identifier: MIT
"""Tests that the C headers compile from a checkout, under several standards of C and C++."""

import shutil
import subprocess
from pathlib import Path

import pytest

INCLUDE = Path(__file__).parents[2] / "allocator_shim/include"
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
	printf("%x %x\\n", O_CLOEXEC, MADV_CLEANUP_PGTABLE);
	return 0;
}
"""
STANDARDS = ["c99", "c11", "gnu11", "gnu17", "c++11", "gnu++20"]


@pytest.mark.parametrize("standard", STANDARDS)
def test_the_headers_compile(standard: str, tmp_path: Path) -> None:
    cpp = "++" in standard
    compiler = shutil.which("c++" if cpp else "cc")
    assert compiler, "make builds with it"
    source = tmp_path / ("program.cc" if cpp else "program.c")
    source.write_text(PROGRAM)
    program = tmp_path / "program"
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{INCLUDE}"]
    done = subprocess.run(
        [compiler, *flags, "-o", program, source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ran = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "80000 50544331\n")
