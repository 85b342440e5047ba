# SPDX-License-Identifier: MIT
"""Tests of the hashes by which a stored proof is matched: what changes them, and what doesn't."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cleanup import lab
from proof import content

PROTOCOL = """\
/* SPDX-License-Identifier: GPL-2.0 */
#include <linux/mm.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0) && \\
    LINUX_VERSION_CODE < KERNEL_VERSION(7, 4, 0)
#define LOCKS newest
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define LOCKS middle
#else
#define LOCKS oldest
#endif
#ifdef CONFIG_OPTION
int optional;
#endif
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
int before_6_6;
#elif OPTION
int since_6_6_with_option;
#else
int since_6_6;
#endif
int every; // of all kernels
"""
KBUILD = "# SPDX-License-Identifier: GPL-2.0\nobj-m := a.o\n"
LINES = tuple(lab.SOURCES)


@pytest.fixture
def kmod(tmp_path: Path) -> Path:
    """Make a small module, whose protocol.h differs by kernel version."""
    made = tmp_path / "kmod"
    for name, text in (("compat/protocol.h", PROTOCOL), ("Kbuild", KBUILD)):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    return made


def concerned(kmod: Path, change: Callable[[], object]) -> list[str]:
    """Return the kernels for which a change alters the module's hash."""
    before = {line: content.of_module(line, kmod) for line in LINES}
    change()
    return [line for line in LINES if content.of_module(line, kmod) != before[line]]


@pytest.mark.parametrize(
    ("old", "new", "kernels"),
    [
        ("every", "every_now", ["6.1", "6.12", "7.3"]),
        ("linux/mm.h", "linux/mman.h", ["6.1", "6.12", "7.3"]),
        ("newest", "newest_now", ["7.3"]),
        ("middle", "middle_now", ["6.12"]),
        ("oldest", "oldest_now", ["6.1"]),
        ("optional", "optional_now", ["6.1", "6.12", "7.3"]),
        ("CONFIG_OPTION", "CONFIG_OTHER", ["6.1", "6.12", "7.3"]),
        ("before_6_6", "before_6_6_now", ["6.1"]),
        ("since_6_6_with_option", "now", ["6.12", "7.3"]),
        ("#elif OPTION", "#elif OTHER", ["6.12", "7.3"]),
        ("KERNEL_VERSION(6, 12, 0)", "KERNEL_VERSION(6, 1, 0)", ["6.1"]),
        ("(6, 12, 0)", "(6, 12, 7)", ["6.1", "6.12"]),
        ("// of all kernels", "/* of every kernel */", []),
        ("int every", "\n\n  int   every", []),
    ],
)
def test_a_change_concerns_the_kernels_that_compile_it(
    kmod: Path, old: str, new: str, kernels: list[str]
) -> None:
    file = kmod / "compat/protocol.h"
    text = file.read_text()
    assert old in text
    assert concerned(kmod, lambda: file.write_text(text.replace(old, new))) == kernels


@pytest.mark.parametrize("name", ["a.mod.c", "native/patch.c", "README.md", "dkms.conf"])
def test_what_goes_into_no_module_does_not_count(kmod: Path, name: str) -> None:
    (kmod / name).parent.mkdir(exist_ok=True)
    assert concerned(kmod, lambda: (kmod / name).write_text("int more;\n")) == []


@pytest.mark.parametrize("name", ["new.c", "new.h", "include/uapi/new.h"])
def test_a_new_source_counts(kmod: Path, name: str) -> None:
    (kmod / name).parent.mkdir(parents=True, exist_ok=True)
    assert concerned(kmod, lambda: (kmod / name).write_text("int more;\n")) == [*LINES]


def test_kbuild_counts_without_its_comments(kmod: Path) -> None:
    assert not concerned(kmod, lambda: (kmod / "Kbuild").write_text(f"{KBUILD}# more\n"))
    assert concerned(kmod, lambda: (kmod / "Kbuild").write_text(f"{KBUILD}ccflags-y := -O1\n"))


def test_the_module_itself_is_hashed_for_each_kernel() -> None:
    """The module compiles to something else on each kernel, so its hashes differ."""
    hashes = {content.of_module(line) for line in LINES}
    assert len(hashes) == len(LINES)


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    """Make a proof that imports a helper and an extension module."""
    texts = {
        "proof/storms/__main__.py": '"""Storms."""\n\nfrom guest import layout\nimport _raw\n',
        "guest/layout.py": "SIZE = 1\n",
        "guest/other.py": "SIZE = 1\n",
        "guest/_raw.pyx": "cdef int a\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "counts"),
    [
        ("guest/layout.py", "SIZE = 2\n", True),
        ("guest/layout.py", '"""Said of it."""\n\n\nSIZE = 1  # said of it\n', False),
        ("guest/layout.py", 'SIZE = 1\nNAME = "# not said"\n', True),
        ("guest/_raw.pyx", "cdef int b\n", True),
        ("guest/other.py", "SIZE = 2\n", False),
    ],
)
def test_a_proof_is_made_of_what_it_imports(
    tests: Path, name: str, text: str, counts: bool
) -> None:
    before = content.of_sources("proof/storms", tests=tests)
    (tests / name).write_text(text)
    assert (content.of_sources("proof/storms", tests=tests) != before) == counts


def test_a_proof_without_sources_is_an_error(tests: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no code in"):
        content.of_sources("proof/gone", tests=tests)
