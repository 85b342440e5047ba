# SPDX-License-Identifier: MIT
"""The site and the man pages build, without a warning."""

import subprocess
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPHINX = str(Path(sysconfig.get_path("scripts")) / "sphinx-build")


def test_site_and_man_pages(tmp_path: Path) -> None:
    """Both of the same pages; what is written in Markdown for C is bold in roff."""
    for builder in ("html", "man"):
        done = subprocess.run(
            [
                *[SPHINX, "--quiet", "--fail-on-warning", "-b", builder],
                *["-d", str(tmp_path / "doctrees"), str(ROOT / "docs"), str(tmp_path / builder)],
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    page = (tmp_path / "man" / "MADV_CLEANUP_PGTABLE.2").read_text(encoding="utf-8")
    for error in ("EAGAIN", "EINVAL", "ENOMEM"):
        assert f"\\fB{error}\\fP" in page
    command = (tmp_path / "man" / "pgtable-cleanup.1").read_text(encoding="utf-8")
    for verb in ("reclaim", "scan", "exec", "features", "lab", "experiment"):
        assert f"pgtable-cleanup {verb}" in command.replace("\\-", "-")
    assert (tmp_path / "html" / "where-it-helps.html").exists()
