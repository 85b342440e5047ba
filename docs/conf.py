# SPDX-License-Identifier: MIT
"""The documentation site and the man pages, both of the Markdown in this directory: `make docs`."""

project = "pgtable-cleanup"
author = "the pgtable-cleanup authors"
extensions = ["myst_parser", "sphinx_click"]
exclude_patterns = ["results"]
html_theme = "alabaster"
html_theme_options = {
    "description": "Gives back the memory of empty page tables",
    "page_width": "68rem",
}
html_show_sphinx = False
html_show_copyright = False
myst_enable_extensions = ["deflist"]
man_pages = [
    (
        "man/madv-cleanup-pgtable",
        "MADV_CLEANUP_PGTABLE",
        "free page tables that hold nothing",
        "",
        "2",
    ),
    (
        "man/pgtable-cleanup",
        "pgtable-cleanup",
        "find and free empty page tables, and measure what that saves",
        "",
        "1",
    ),
]
