# SPDX-License-Identifier: MIT
"""The directive ``c-header``: a reference page from the comments of a C header.

::

    .. c-header:: ../include/header.h

The header's first comment introduces it.  A kernel-doc comment describes the structure, enumeration
or function below it; any other comment describes the macros or function declarations below it.
What has no comment is left out.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

# A piece of a header: a comment, if there is one, and the code below it up to an empty line.
PIECE = re.compile(
    r"^(?:/\*(?!\s*SPDX)(?P<kernel_doc>\*?)(?P<text>.*?)\*/\n)?(?P<code>(?:(?!/\*)[^\n]+\n)*)",
    re.MULTILINE | re.DOTALL,
)
MACRO = re.compile(
    r"^#define[ \t]+(?P<name>(?:MADV|PGTABLE)_\w+)(?:[ \t]|\\\n)+(?P<value>.*?)"
    r"(?:[ \t]*/\*[ \t]*(?P<text>.*?)[ \t]*\*/)?$",
    re.MULTILINE,
)
FUNCTION = re.compile(
    r"^(?P<declaration>[a-z][\w \t]+\**(?P<name>\b\w+)\([^;{]*?\))(?:\s*PGTC_WEAK)?\s*[;{]",
    re.MULTILINE,
)
MEMBER = re.compile(r"^\t(?P<declaration>[\w ]+?\s*\**(?P<name>\w+)(?:\[\w+\])?);", re.MULTILINE)
ENUMERATOR = re.compile(r"^\t(?P<name>\w+)", re.MULTILINE)
DESCRIBED = re.compile(r"^@(\w+):[ \t]*")
# Declarations that begin with these words are no part of the interface, even with a comment.
INTERNAL = ("static", "extern")
SPECIAL = re.compile(r"([\\*|]|_(?!\w))")


class CHeader(SphinxDirective):
    """The directive ``c-header``, as the module's docstring describes it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return what the header's comments say."""
        source, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(source)
        lines = reference(Path(path).read_text(encoding="utf-8"))
        content = StringList(lines, source=path)
        node = nodes.container()
        self.state.nested_parse(content, self.content_offset, node)
        return node.children


def reference(header: str) -> list[str]:
    """Return the reStructuredText of a header, in the order of the header."""
    lines: list[str] = []
    for piece in PIECE.finditer(header):
        text, code = _plain(piece["text"] or ""), piece["code"]
        if text and not lines:
            lines += [*_prose(text), ""]
        elif piece["kernel_doc"]:
            lines += _kernel_doc(text, _declaration_after(header, piece))
        elif macros := list(MACRO.finditer(code)):
            lines += _macros(text, macros)
        elif text and (function := FUNCTION.match(code)) and not code.startswith(INTERNAL):
            entry = _entry("c:function", function["declaration"], _prose(text))
            if f"struct {function['name']} {{" in header:
                # Sphinx lets a function have a structure's name only in a namespace of its own.
                entry = [".. c:namespace-push:: functions", "", *entry, ".. c:namespace-pop::", ""]
            lines += entry
    return lines


def _declaration_after(header: str, piece: re.Match[str]) -> str:
    """Return the code of a piece, up to its closing brace if it has any."""
    code = header[piece.start("code") :]
    return code[: code.find("\n}") + 1] if "{" in piece["code"] else piece["code"]


def _plain(text: str) -> str:
    """Return a comment's text without its stars."""
    lines = (re.sub(r"^ \*[ ]?", "", line).rstrip() for line in text.strip("\n").splitlines())
    return "\n".join(lines).strip()


def _kernel_doc(text: str, code: str) -> Iterator[str]:
    head, _, body = text.partition("\n")
    name, _, purpose = head.partition(" - ")
    # The first word gets a capital unless it is a name or a call.
    first, _, rest = purpose.partition(" ")
    purpose = f"{first.capitalize() if first.isalpha() and first.islower() else first} {rest}."
    if name.endswith("()"):
        declaration = code[: code.index(")") + 1].removeprefix("static inline ")
        yield from _entry("c:function", declaration, [*_prose(purpose), "", *_function_body(body)])
        return
    kind, _, tag = name.partition(" ")
    if kind == "struct":
        declared = {one["name"]: one["declaration"] for one in MEMBER.finditer(code)}
        members = "c:member"
    else:
        declared = {one["name"]: one["name"] for one in ENUMERATOR.finditer(code)}
        members = "c:enumerator"
    yield from _entry(f"c:{kind}", tag, [*_prose(purpose), "", *_body(body, members, declared)])


def _body(body: str, directive: str, declared: dict[str, str]) -> Iterator[str]:
    """Yield the paragraphs and the members of a structure, in their order."""
    for block in _blocks(body):
        found = DESCRIBED.match(block)
        if found is None:
            yield from [*_prose(block), ""]
        else:
            yield from _entry(directive, declared[found[1]], _prose(block[found.end() :]))


def _function_body(body: str) -> Iterator[str]:
    for block in _blocks(body):
        if found := DESCRIBED.match(block):
            yield f":param {found[1]}: {' '.join(_prose(block[found.end() :]))}"
        elif block.startswith("Return:"):
            yield f":returns: {' '.join(_prose(block.removeprefix('Return:')))}"
        else:
            yield from [*_prose(block), ""]


def _blocks(body: str) -> list[str]:
    """Split a body into paragraphs and described members."""
    return [one for one in re.split(r"\n\n+|\n(?=@\w+:)", body.strip("\n")) if one.strip()]


def _macros(text: str, macros: Sequence[re.Match[str]]) -> Iterator[str]:
    """Yield macros.  Text above describes the first one if it ends in ".", else it is a heading."""
    if not text.endswith("."):
        yield from [*_prose(text), ""]
        text = ""
    for one in macros:
        value = [f"``{one['value'].strip()}``", ""]
        yield from _entry("c:macro", one["name"], [*value, *_prose(one["text"] or text)])
        text = ""


def _entry(directive: str, signature: str, body: Sequence[str]) -> list[str]:
    head = f".. {directive}:: {' '.join(signature.split())}"
    return [head, "", *(f"   {line}" for line in body), ""]


def _prose(text: str) -> list[str]:
    """Return a text's paragraphs as lines; a paragraph that a tab indents is code."""
    lines: list[str] = []
    for paragraph in re.split(r"\n\n+", text.strip("\n")):
        if paragraph.startswith("\t"):
            code = (f"   {line[1:]}" for line in paragraph.splitlines())
            lines += [".. code-block:: c", "", *code, ""]
            continue
        joined = " ".join(line.strip() for line in paragraph.splitlines())
        joined = SPECIAL.sub(r"\\\1", joined)
        joined = re.sub(r"@(\w+)|`([^`]+)`", r"``\1\2``", joined)
        lines += [joined, ""]
    return lines


def _forget(_app: Sphinx, env: BuildEnvironment, page: str) -> None:
    """Forget all C names of a page that Sphinx is about to read again.

    Sphinx 9 itself forgets only those outside a namespace, and reports the others as duplicates.
    """
    for symbol in list(env.get_domain("c").data["root_symbol"].get_all_symbols()):
        symbol.clear_doc(page)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive with Sphinx."""
    app.add_directive("c-header", CHeader)
    app.connect("env-purge-doc", _forget)
    return {"parallel_read_safe": True}
