# SPDX-License-Identifier: MIT
"""Tests by a C compiler that syzkaller's description of the device agrees with the header."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
UAPI = ROOT / "kmod/include/uapi"
DESCRIPTION = (ROOT / "tests/proof/fuzz/pgtable_cleanup.txt").read_text()
STRUCT = re.compile(r"^(\w+) {\n((?:\t.+\n)+)}", re.MULTILINE)
FLAGS = re.compile(r"^pgtable_cleanup_(flags|levels) = (.+)$", re.MULTILINE)
CONSTANT = re.compile(r"\b(?:PGTABLE_CLEANUP|MADV_CLEANUP)_\w+")


def size_of(kind: str) -> str:
    """Return the size of one of syzkaller's types in bytes, as a C expression."""
    if array := re.fullmatch(r"array\[(.+), (\w+)\]", kind):
        return f"{size_of(array[1])} * {array[2]}"
    if kind.startswith(("ptr64[", "vma64[")):
        return "8"
    if kind.startswith("fd_"):
        return "4"
    bits = re.search(r"\bint(32|64)\b", kind)
    assert bits, f"{kind} has no size"
    return str(int(bits[1]) // 8)


def assertions() -> list[str]:
    """Return C assertions that each struct has the described field offsets and size."""
    lines = []
    for name, body in STRUCT.findall(DESCRIPTION):
        offset = "0"
        for line in body.splitlines():
            field, kind = line.split(maxsplit=1)
            lines.append(f"_Static_assert(offsetof(struct {name}, {field}) == {offset}, #{field});")
            offset += f" + {size_of(kind)}"
        lines.append(f"_Static_assert(sizeof(struct {name}) == {offset}, {name!r});")
    return [re.sub(r"#(\w+)|'(\w+)'", r'"\1\2"', line) for line in lines]


def compiled(lines: list[str]) -> "subprocess.CompletedProcess[str]":
    source = ["#include <stddef.h>", "#include <pgtable_cleanup.h>", *lines]
    return subprocess.run(
        ["cc", "-std=gnu11", "-fsyntax-only", f"-I{UAPI}", "-xc", "-"],
        input="\n".join(source),
        capture_output=True,
        text=True,
        check=False,
    )


def test_layout_of_the_structs() -> None:
    lines = assertions()
    assert len(lines) > 30
    done = compiled(lines)
    assert done.returncode == 0, done.stderr
    wrong = [line.replace(" == 0 ", " == 1 + 0 ") for line in lines]
    assert compiled(wrong).returncode != 0, "the check itself fails nothing"


def test_every_constant_is_the_headers() -> None:
    names = sorted(set(CONSTANT.findall(DESCRIPTION)))
    done = compiled([f"enum {{ constant_{name} = (int)({name}) }};" for name in names])
    assert done.returncode == 0, done.stderr


def test_no_flag_is_missing() -> None:
    described = {name for _, names in FLAGS.findall(DESCRIPTION) for name in names.split(", ")}
    header = (UAPI / "pgtable_cleanup.h").read_text()
    defined = re.findall(r"^#define (PGTABLE_CLEANUP_\w+)\s+0x\d\b", header, re.MULTILINE)
    assert described == {name for name in defined if "_FEATURE_" not in name}
