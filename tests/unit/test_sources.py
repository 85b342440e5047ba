# SPDX-License-Identifier: MIT
"""Tests of rules that no linter checks; each names all files that break its rule."""

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    if (ROOT / name).is_file()
)
# Files of these kinds have no place for a comment, or are the licences themselves.
WITHOUT_SPDX = {".dmesg", ".json", ".ipynb", ".png", ".svg", ".txt", ".typed", ".md"}
LICENCES = {
    "kmod/include/uapi": "GPL-2.0 WITH Linux-syscall-note",
    "allocator_shim/include/pgtable_cleanup.h": "GPL-2.0 WITH Linux-syscall-note",  # a symlink
    "kmod": "GPL-2.0",
    "tests/proof/modules/delay": "GPL-2.0",
    "tests/proof/modules/race": "GPL-2.0",
    "tests/proof/modules/shadow": "GPL-2.0",
    "": "MIT",
}


def test_no_ctypes() -> None:
    """The kernel is called through cleanup/_uapi.pyx, and C libraries through Cython."""
    callers = [name(path) for path in SOURCES if path.suffix == ".py" and calls_c(path)]
    assert not callers, "these import ctypes or cffi"


def test_spdx_line() -> None:
    """The first line, or the one after #!, names the licence of the file's directory."""
    wrong = [
        f"{name(path)}: {found or 'no licence'}, not {licence(path)}"
        for path in SOURCES
        if path.suffix not in WITHOUT_SPDX and path.stat().st_size
        if (found := spdx(path)) != licence(path)
    ]
    assert not wrong


def test_assembly_is_in_files_named_for_their_architecture() -> None:
    """In other files of the kit, __asm__ only gives a function the name that it has in libc."""
    wrong = [
        name(path)
        for path in SOURCES
        if name(path).startswith(("allocator_shim/", "tests/"))
        if (path.suffix == ".S" or (path.suffix in {".c", ".h", ".pyx"} and has_assembly(path)))
        and not path.stem.endswith(("_x86_64", "_aarch64"))
    ]
    assert not wrong


def has_assembly(path: Path) -> bool:
    return (
        re.search(r"\b(?:__asm__|asm)\s*(?:volatile\s*)?\((?!#name\))", path.read_text())
        is not None
    )


def test_another_architecture_is_told_what_is_missing() -> None:
    built = subprocess.run(
        [
            "cc",
            "-fsyntax-only",
            "-U__x86_64__",
            "-U__aarch64__",
            ROOT / "allocator_shim/core/arch.h",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode
    assert "#error" in built.stderr
    assert "see arch.h" in built.stderr


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def calls_c(path: Path) -> bool:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module.partition(".")[0])
    return bool(imported & {"ctypes", "cffi"})


def spdx(path: Path) -> str | None:
    first, second, *_ = [*path.read_text().splitlines(), "", ""]
    line = second if first.startswith("#!") else first
    found = re.search(r"SPDX-License-Identifier: (.+?)(?: \*/| -->| #})?$", line)
    return found and found[1]


def licence(path: Path) -> str:
    return next(each for place, each in LICENCES.items() if name(path).startswith(place))
