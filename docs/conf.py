# SPDX-License-Identifier: MIT
"""Sphinx's configuration: `make docs` builds the site and the man pages from the Markdown here."""

import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

# Import the compiled modules: Sphinx itself would read their stubs, which have no docstrings.
import allocator_shim.jemalloc
import allocator_shim.preloaded  # noqa: F401

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "pgtable-cleanup"
author = "the pgtable-cleanup authors"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "c_header",
]
# `name` in a docstring is shown as code, and links to the name's documentation if there is any.
default_role = "py:obj"
# Quotation marks become typographic; the two dashes of an option stay.
smartquotes_action = "q"
maximum_signature_line_length = 80

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"undoc-members": False}
napoleon_use_ivar = True

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "pgtable-cleanup"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

man_pages = [
    (
        "man/madv-cleanup-pgtable",
        "MADV_CLEANUP_PGTABLE",
        "free page tables that hold nothing",
        "",
        "2",
    ),
    (
        "man/libpgtable-cleanup",
        "libpgtable_cleanup",
        "free empty page tables of a program as it gives memory back",
        "",
        "7",
    ),
    (
        "man/pgtable-cleanup",
        "pgtable-cleanup",
        "find and free empty page tables, and measure what that saves",
        "",
        "1",
    ),
]


def dashes(_app: Sphinx, document: nodes.document) -> None:
    """Replace the double hyphens that Sphinx puts after a parameter's name by dashes."""
    for text in list(document.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" – "))  # noqa: RUF001


def setup(app: Sphinx) -> None:
    """Register this file's function with Sphinx."""
    app.connect("doctree-read", dashes)
