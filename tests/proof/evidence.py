# SPDX-License-Identifier: MIT
"""Stored proofs: a document for each proof, kernel and scale, with what it is a proof of.

evidence/proofs/short/storms-6.12.json has the figures of a proof that passed, the hashes of the
module and of the proof's own sources, and the kernel; storms-6.12.dmesg beside it has what that
kernel logged meanwhile.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from cleanup.lab import Kernel
from proof.content import ROOT

Scale = Literal["short", "long"]
SCALES: tuple[Scale, ...] = ("short", "long")
STORED = ROOT / "evidence/proofs"
STAMP = re.compile(r"^\[ *[0-9.]+\](\[ *[CT][0-9]+\])? ?")
# A log with more lines than this is stored without its middle.
MOST_LOG_LINES = 400

Document = dict[str, Any]


@dataclass(frozen=True)
class About:
    """Hashes of what a proof is about: a stored proof counts for as long as these stay the same."""

    module: str
    """The hash of the module as it is for that kernel."""
    sources: str
    """The hash of the proof's own sources."""


def path(name: str, kernel: str, scale: Scale, stored: Path = STORED) -> Path:
    """Return where a proof's document is, or would be."""
    return stored / scale / f"{name}-{kernel}.json"


def read(name: str, kernel: str, scale: Scale, stored: Path = STORED) -> Document | None:
    """Return a stored proof's document, or None if there is none."""
    try:
        found: Document = json.loads(path(name, kernel, scale, stored).read_text())
    except FileNotFoundError:
        return None
    return found


def read_all(stored: Path = STORED) -> list[Document]:
    """Return all stored documents, those of short proofs first."""
    files = [file for scale in SCALES for file in sorted((stored / scale).glob("*.json"))]
    return [json.loads(file.read_text()) for file in files]


def store(document: Document, log: str, stored: Path = STORED) -> Path:
    """Write the document of a proof that passed, and its kernel's log; return the document's path.

    They replace the older ones of the same proof, kernel and scale.
    """
    place = path(document["proof"], document["line"], document["scale"], stored)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.with_suffix(".dmesg").write_text(log)
    replace(place, document)
    return place


def replace(file: Path, content: object) -> None:
    """Write JSON to a file; if that is interrupted, the file stays as it was."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(json.dumps(content, indent=1) + "\n")
    new.rename(file)


def obstacle(document: Document | None, about: About) -> str | None:
    """Say why a stored proof does not count for the module and the proof as they are, or None."""
    if document is None:
        return "it was not proved"
    if document.get("module") != about.module:
        return "the module has changed since it was proved"
    if document.get("sources") != about.sources:
        return "the proof has changed since it passed"
    return None


def other_kernel(document: Document | None, release: str) -> str | None:
    """Say that the kernel is not the proved one, or return None if it is.

    Another kernel is no failure: Debian may release one at any time.
    """
    if document is None or document["kernel"] == release:
        return None
    return f"proved on {document['kernel']}, and not yet on {release}"


def configuration(kernel: Kernel) -> str | None:
    """Hash a kernel's .config, or return None if its packages have none."""
    for file in (
        kernel.tree / f"usr/src/linux-headers-{kernel.release}/.config",
        kernel.tree / f"boot/config-{kernel.release}",
    ):
        if file.is_file():
            return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return None


def trimmed(log: str) -> str:
    """Shorten a kernel's log, and leave out the paths of this checkout and of the user's home.

    Lines that repeat the one before become one, and the middle of a log that is too long is left
    out.
    """
    log = log.replace(f"{ROOT}/", "").replace(f"{Path.home()}/", "~/")
    kept = _folded([line.rstrip() for line in log.splitlines() if line.strip()])
    if len(kept) > MOST_LOG_LINES:
        half = MOST_LOG_LINES // 2
        left_out = f"... {len(kept) - 2 * half} lines are left out ..."
        kept = [*kept[:half], left_out, *kept[-half:]]
    return "".join(f"{line}\n" for line in kept)


def _folded(lines: Sequence[str]) -> list[str]:
    folded = []
    for _, group in groupby(lines, lambda line: STAMP.sub("", line)):
        first, *more = group
        folded += [first, f"... {len(more)} times more ..."] if more else [first]
    return folded
