# SPDX-License-Identifier: MIT
"""Tests that the documentation builds, its links lead somewhere, and its reference is complete."""

import importlib
import pickle
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from sphinx import addnodes
from sphinx.util.inventory import InventoryFile

import allocator_shim.errors
from allocator_shim.preloaded import Conf
from documented import PAGES, ROOT

SPHINX = str(Path(sysconfig.get_path("scripts")) / "sphinx-build")
PUBLIC_MODULES = (
    "cleanup",
    "allocator_shim",
    "allocator_shim.preloaded",
    "allocator_shim.jemalloc",
)
C_DECLARATION = re.compile(
    r"^#define\s+((?:MADV|PGTABLE_CLEANUP)_\w+)[ \t\\]+\S"
    r"|^(?:struct|enum) (pgtable_cleanup_\w+) \{"
    r"|^\t(PGTABLE_CLEANUP_\w+),"
    r"|^(?:int|void|size_t|static inline int) (pgtable_cleanup_(?!by_module)\w+)\(",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site in `html` and the man pages in `man`, both without a warning."""
    out = tmp_path_factory.mktemp("docs")
    for builder in ("html", "man"):
        done = subprocess.run(
            [
                *[SPHINX, "--quiet", "--fail-on-warning", "-b", builder],
                *["-d", str(out / "doctrees"), str(ROOT / "docs"), str(out / builder)],
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
    return out


class Page(HTMLParser):
    """The links of a page, and the places in it that a link can name."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        """Note an element's links, and the names by which links can point to it."""
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.places.add(value)


def test_man_pages(built: Path) -> None:
    """The call's page has its errors in bold, the command's every verb, the library's its keys."""
    page = (built / "man/MADV_CLEANUP_PGTABLE.2").read_text(encoding="utf-8")
    for error in ("EAGAIN", "EINVAL", "ENOMEM"):
        assert f"\\fB{error}\\fP" in page
    command = (built / "man/pgtable-cleanup.1").read_text(encoding="utf-8")
    for verb in ("reclaim", "scan", "exec", "features", "lab", "experiment"):
        assert f"pgtable-cleanup {verb}" in command.replace("\\-", "-")
    library = (built / "man/libpgtable_cleanup.7").read_text(encoding="utf-8")
    for key in fields(Conf):
        assert f"\\fB{key.name}\\fP" in library


def test_no_link_of_the_site_is_dead(built: Path) -> None:
    site = built / "html"
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert site / "index.html" in pages
    assert not [
        f"{path.relative_to(site)}: {link}"
        for path, page in pages.items()
        for link in page.links
        if not urlsplit(link).scheme and not leads_somewhere(path, link, pages)
    ]


def leads_somewhere(page: Path, link: str, pages: dict[Path, Page]) -> bool:
    """Return whether a link names a file of the site and, if that is a page, a place in it."""
    path, place = urldefrag(link)
    target = page.parent.joinpath(unquote(urlsplit(path).path)).resolve() if path else page
    if target not in pages:
        return target.is_file()
    return unquote(place) in pages[target].places


def test_no_link_between_the_files_of_the_checkout_is_dead() -> None:
    """Links between the checkout's files must work, because not all readers build the site."""
    assert not [
        f"{page.relative_to(ROOT)}: {link}"
        for page in PAGES
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
        if not urlsplit(link).scheme and not names_a_file(page, link)
    ]


def names_a_file(page: Path, link: str) -> bool:
    """Return whether a relative link names a file and, after a #, one of that file's headings."""
    path, place = urldefrag(link)
    target = page.parent / path if path else page
    return target.is_file() and (not place or place in headings(target))


def headings(page: Path) -> Iterator[str]:
    """Yield a page's headings in the form in which a link names them after its #."""
    for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        yield re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_every_public_python_name_is_in_the_reference(built: Path) -> None:
    documented = inventory(built, "py:")
    public = {
        f"{module}.{name}"
        for module in PUBLIC_MODULES
        for name in importlib.import_module(module).__all__
    }
    errors = {name for name in vars(allocator_shim.errors) if name[0].isupper()}
    public |= {f"allocator_shim.errors.{name}" for name in errors}
    assert public - documented == set()
    assert public - described(built) == set()


def described(built: Path) -> set[str]:
    """Return the names whose entries in the site have a description.

    A list of parameters or attributes is no description, and neither is the signature that
    Python puts in place of a dataclass's missing docstring.
    """
    found = set()
    for path in (built / "doctrees").rglob("*.doctree"):
        document = pickle.loads(path.read_bytes())  # noqa: S301 -- it was written just now
        for signature in document.findall(addnodes.desc_signature):
            (name,) = signature["ids"][:1] or [""]
            generated = f"{name.rpartition('.')[2]}("
            content = signature.parent[-1].children
            texts = [node.astext() for node in content if node.tagname == "paragraph"]
            if any(not text.startswith(generated) for text in texts):
                found.add(name)
    return found


def test_every_name_of_the_c_headers_is_in_the_reference(built: Path) -> None:
    headers = [
        ROOT / "kmod/include/uapi/pgtable_cleanup.h",
        *(ROOT / "allocator_shim/include").glob("pgtable_cleanup_*.h"),
    ]
    declared = {
        name
        for header in headers
        for names in C_DECLARATION.findall(header.read_text(encoding="utf-8"))
        for name in names
        if name
    }
    assert {"MADV_CLEANUP_PGTABLE", "pgtable_cleanup_args", "pgtable_cleanup_drain"} <= declared
    assert declared - inventory(built, "c:") == set()


def test_a_header_that_has_changed_is_read_again(tmp_path: Path) -> None:
    """A second `make docs` must not warn that the header's names are documented twice."""
    extensions = str(ROOT / "docs/extensions")
    (tmp_path / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {extensions!r})\nextensions = ['c_header']\n"
    )
    (tmp_path / "index.rst").write_text("Header\n======\n\n.. c-header:: header.h\n")
    header = (ROOT / "allocator_shim/include/pgtable_cleanup_shim.h").read_text(encoding="utf-8")
    for text in (header, f"{header}\n"):
        (tmp_path / "header.h").write_text(text, encoding="utf-8")
        done = subprocess.run(
            [SPHINX, "--quiet", "--fail-on-warning", str(tmp_path), str(tmp_path / "built")],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr


def inventory(built: Path, domain: str) -> set[str]:
    """Return the names that the site documents for one language, which `domain` stands for."""
    with (built / "html/objects.inv").open("rb") as file:
        found = InventoryFile.load(file, "", lambda base, name: f"{base}{name}")
    return {name for kind in found if kind.startswith(domain) for name in found[kind]}
