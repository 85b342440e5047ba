# SPDX-License-Identifier: MIT
"""Hashes of what a proof is about: two are equal where nothing that counts has changed.

Comments, docstrings and white space don't count, nor does code of the module that is compiled for
other kernels only: a change for the newest kernel leaves the proofs on the others standing.
"""

import ast
import hashlib
import io
import operator
import re
import subprocess
import tokenize
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
KMOD = ROOT / "kmod"
# Directories of kmod/ that hold other ways to build it, none of which goes into the .ko.
NOT_IN_MODULE = ("native",)
C_SUFFIXES = (".c", ".h")
CODE_SUFFIXES = (*C_SUFFIXES, ".py", ".pyx", ".config")

CONDITION = re.compile(r"# ?(if|ifdef|ifndef|elif|else|endif)\b(.*)")
VERSION = re.compile(r"KERNEL_VERSION\((\d+), ?(\d+), ?0\)")
COMPARISONS: dict[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Eq: operator.eq,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.NotEq: operator.ne,
}


def of_module(kernel: str, kmod: Path = KMOD) -> str:
    """Hash the .ko's sources and its Kbuild, as a line of kernels, such as 6.12, compiles them."""
    files = [
        path
        for path in sorted(kmod.rglob("*"))
        if path.suffix in C_SUFFIXES and not path.name.endswith(".mod.c")
        if path.relative_to(kmod).parts[0] not in NOT_IN_MODULE
    ]
    texts = {str(path.relative_to(kmod)): _for_kernel(_c(path), kernel) for path in files}
    return _hash({**texts, "Kbuild": _without_hashes(kmod / "Kbuild")})


def of_sources(*names: str, tests: Path = TESTS) -> str:
    """Hash files and directories below tests/, and all below tests/ that their code imports."""
    files = set()
    found = [path for name in names for path in _code_in(tests / name)]
    while found:
        path = found.pop()
        if path not in files:
            files.add(path)
            found += _imported(path, tests) if path.suffix == ".py" else []
    return _hash({str(path.relative_to(tests)): _lines(path) for path in sorted(files)})


def combined(*hashes: str) -> str:
    """Combine several hashes, or other texts, into one hash."""
    return hashlib.sha256("\0".join(hashes).encode()).hexdigest()[:16]


def _hash(texts: dict[str, Iterable[str]]) -> str:
    return combined(*(f"{name}\0" + "\n".join(lines) for name, lines in texts.items()))


def _code_in(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = [path for path in place.rglob("*") if path.suffix in CODE_SUFFIXES]
    if not found:
        raise FileNotFoundError(f"no code in {place}")
    return [path for path in found if not path.name.endswith(".mod.c")]


def _imported(path: Path, tests: Path) -> Iterator[Path]:
    """Yield the files below tests/ that a file imports."""
    for name in _names_imported(path.read_text()):
        place = tests.joinpath(*name.split("."))
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                yield file
        # Compiled extensions, such as _fuzz, are imported without a package.
        if name.startswith("_"):
            yield from tests.rglob(f"{name}.pyx")


@cache
def _names_imported(text: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _lines(path: Path) -> list[str]:
    if path.suffix in C_SUFFIXES:
        return _c(path)
    return _python(path.read_text()) if path.suffix == ".py" else _without_hashes(path)


def _c(path: Path) -> list[str]:
    return _preprocessed(path.read_text())


@cache
def _preprocessed(text: str) -> list[str]:
    """Return the lines of C code without comments; gcc's preprocessor does nothing else here."""
    done = subprocess.run(
        ["gcc", "-w", "-fpreprocessed", "-dD", "-E", "-P", "-x", "c", "-"],
        # gcc takes a line of a macro that begins with # for a directive.
        input=text.replace("\\\n", " "),
        check=True,
        capture_output=True,
        text=True,
    )
    # Versions of gcc differ in how they break and indent lines.
    return _squeezed(done.stdout.replace("\\\n", " "))


@cache
def _python(text: str) -> list[str]:
    """Return a Python file's lines without comments and docstrings."""
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str()), end_lineno=int(end)):
                lines[node.lineno - 1 : end] = [""] * (end - node.lineno + 1)
    # Indentation has a meaning in Python, so that only trailing white space goes.
    return [line.rstrip() for line in lines if line.strip()]


def _without_hashes(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    return _squeezed("\n".join(line for line in lines if not line.lstrip().startswith("#")))


def _squeezed(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def _for_kernel(lines: Iterable[str], kernel: str) -> Iterator[str]:
    """Yield the lines of C code, without those that a condition on the version keeps from a kernel.

    Other conditions stay, with all that depends on them.
    """
    branches: list[_Branches] = []
    for line in lines:
        match = CONDITION.match(line)
        if match is None:
            if all(each.taken for each in branches):
                yield line
            continue
        word, condition = match.groups()
        if word.startswith("if"):
            branches.append(_Branches())
        shown = branches[-1].goes_on(word, _holds(condition, kernel) if word[-2:] == "if" else None)
        if shown and all(each.taken for each in branches[:-1]):
            yield line
        if word == "endif":
            branches.pop()


class _Branches:
    """The branches of one #if, as far as they were read."""

    def __init__(self) -> None:
        self.taken = True
        """Whether the kernel may compile the lines of this branch."""
        self._decided = False
        self._undecided = False

    def goes_on(self, word: str, holds: bool | None) -> bool:
        """Take the next directive; return whether the hash must cover the directive itself."""
        if word == "endif":
            return self._undecided
        self.taken = not self._decided and holds is not False
        if self.taken and word != "else" and holds is None:
            self._undecided = True
            return True
        self._decided = self._decided or holds is True
        # After an #if that can't be decided, the hash must cover the #elif and #else lines, too.
        return self.taken and self._undecided


def _holds(condition: str, kernel: str) -> bool | None:
    """Return whether a #if's condition holds for a line of kernels, such as 6.12; None if unknown.

    A condition on the third number of a version stays unknown, as a line has many of these.
    """
    major, minor = map(int, kernel.split("."))
    text = VERSION.sub(lambda match: str(int(match[1]) * 1000 + int(match[2])), condition)
    text = text.replace("LINUX_VERSION_CODE", str(major * 1000 + minor))
    text = text.replace("&&", " and ").replace("||", " or ")
    try:
        return _truth(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, NotAVersion):
        return None


class NotAVersion(Exception):
    """A #if's condition depends on more than the kernel's version."""


def _truth(node: ast.expr) -> bool:
    match node:
        case ast.BoolOp():
            parts = [_truth(part) for part in node.values]
            return all(parts) if isinstance(node.op, ast.And) else any(parts)
        case ast.Compare(
            left=ast.Constant(value=int(left)),
            ops=[ast.Eq() | ast.Gt() | ast.GtE() | ast.Lt() | ast.LtE() | ast.NotEq() as how],
            comparators=[ast.Constant(value=int(right))],
        ):
            return COMPARISONS[type(how)](left, right)
    raise NotAVersion(ast.unparse(node))
