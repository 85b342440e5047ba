# SPDX-License-Identifier: MIT
"""Rules of the house that no linter knows."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

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
# Have no place for a comment, or are the licences themselves.
WITHOUT_SPDX = {".json", ".ipynb", ".png", ".svg", ".txt", ".typed", ".md"}
LICENCES = {
    "kmod/include/uapi": "GPL-2.0 WITH Linux-syscall-note",
    "allocator_shim/include/pgtable_cleanup.h": "GPL-2.0 WITH Linux-syscall-note",  # a link
    "kmod": "GPL-2.0",
    "tests/proof/modules/delay": "GPL-2.0",
    "tests/proof/modules/race": "GPL-2.0",
    "tests/proof/modules/shadow": "GPL-2.0",
    "": "MIT",
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [path for path in SOURCES if path.suffix == ".py"], ids=name)
def test_no_ctypes(path: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module.partition(".")[0])
    assert not imported & {"ctypes", "cffi"}, "the kernel is called through cleanup/_uapi.pyx"


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if path.suffix not in WITHOUT_SPDX and path.stat().st_size],
    ids=name,
)
def test_spdx_line(path: Path) -> None:
    first, second, *_ = [*path.read_text().splitlines(), ""]
    line = second if first.startswith("#!") else first
    found = re.search(r"SPDX-License-Identifier: (.+?)(?: \*/| -->| #})?$", line)
    assert found, "the first line, or the one after #!, names the licence"
    wanted = next(licence for place, licence in LICENCES.items() if name(path).startswith(place))
    assert found[1] == wanted
