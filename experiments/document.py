# SPDX-License-Identifier: MIT
"""A document: what one part measured on one kernel, as it is stored in JSON."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, cast

import cleanup
from cleanup.errors import CleanupError
from experiments import registry
from experiments.part import Claim, ExperimentError, Measured, Part, Scale

SCHEMA = 2
_EMULATED = (
    "it takes a processor's times, and an emulator's say nothing of those: run it with --host, or "
    "where the lab has KVM"
)
_UNCOUNTED = "it counts instructions, which takes a guest of the lab: leave out --host"


class Document(TypedDict):
    """One part on one kernel: sizes in bytes, times in seconds.

    `scale` is what was asked for. `machine` is the guest's, and None on the host. `clock` compares
    the guest's clock with the host's: times count only where both agree. `unavailable` says by
    name what was left out and why, be it a method or the whole part. `measured` is None where
    nothing was measured. `claims` are judged only at full scale. `failures` make a run fail.
    """

    schema: int
    part: str
    description: str
    kernel: str
    kernel_pt_reclaim: bool
    accelerator: str
    commit: str | None
    seed: int
    scale: dict[str, Any]
    machine: dict[str, Any] | None
    clock: dict[str, Any] | None
    unavailable: dict[str, str]
    measured: Measured | None
    claims: list[Claim]
    failures: list[str]


def empty(part: Part, scale: Scale, kernel: str) -> Document:
    """Return a document of a part, without figures yet."""
    asked = scale.to_json()
    return {
        "schema": SCHEMA,
        "part": part.name,
        "description": part.description,
        "kernel": kernel,
        "kernel_pt_reclaim": False,
        "accelerator": os.environ.get("PGTABLE_CLEANUP_ACCELERATOR", "host"),
        "commit": None,
        "seed": asked.pop("seed"),
        "scale": asked,
        "machine": None,
        "clock": None,
        "unavailable": {},
        "measured": None,
        "claims": [],
        "failures": [],
    }


def measure(part: Part, scale: Scale) -> Document:
    """Measure a part on this machine; return a document, which also says what failed."""
    features = cleanup.features()
    document = empty(part, scale, features.kernel)
    document["kernel_pt_reclaim"] = features.pt_reclaim
    if part.needs.icount and "PGTABLE_CLEANUP_ICOUNT" not in os.environ:
        document["unavailable"] = {part.name: _UNCOUNTED}
        return document
    if part.needs.hardware and document["accelerator"] == "tcg":
        document["unavailable"] = {part.name: _EMULATED}
        return document
    say = scale.progress
    try:
        measured = part.measure(replace(scale, progress=lambda said: say(f"{part.name}: {said}")))
    except (CleanupError, OSError) as error:
        document["failures"] = [str(error)]
        return document
    document["unavailable"] = measured.pop("unavailable", {})
    document["measured"] = measured
    document["failures"] = part.violations(measured)
    if not scale.quick:
        document["claims"] = part.claims(measured)
    return document


def file_name(document: Document) -> str:
    """Return the document's file name, made of its part, host or lab, and kernel."""
    where = "host" if document["accelerator"] == "host" else "lab"
    major_minor = ".".join(document["kernel"].split(".")[:2])
    return f"{document['part'].replace('/', '-')}-{where}-{major_minor}.json"


def write(document: Document, path: Path) -> None:
    """Write a document, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_all(directory: Path) -> list[Document]:
    """Return the documents in a directory, sorted by part and kernel.

    Other JSON files are left out, and so are documents of parts that no longer exist.
    """
    found: list[Document] = []
    for path in directory.glob("*.json"):
        try:
            content = json.loads(path.read_bytes())
        except ValueError:  # the file is no document: `write` writes valid JSON
            continue
        if isinstance(content, dict) and content.get("schema") == SCHEMA and "part" in content:
            found.append(cast(Document, content))
    known = [one for one in found if registry.find(one["part"])]
    return sorted(known, key=lambda one: (one["part"], _version(one)))


def read_some(directory: Path) -> list[Document]:
    """Return the documents in a directory.  Raises ExperimentError if there is none."""
    found = read_all(directory)
    if not found:
        raise ExperimentError(
            f"no results in {directory.absolute()}: let PGTABLE_CLEANUP_RESULTS name a directory "
            "that `pgtable-cleanup experiment run --out` has written to"
        )
    return found


def read(path: Path) -> Document:
    """Return the document in a file that `write` has written."""
    return cast(Document, json.loads(path.read_bytes()))


def of(documents: Sequence[Document], name: str) -> list[Document]:
    """Return the documents of a part."""
    return [one for one in documents if one["part"] == name]


def measured_of(document: Document) -> tuple[Part, Measured]:
    """Return a document's part and what it measured.  Raises ExperimentError if one is missing."""
    part, measured = registry.find(document["part"]), document["measured"]
    if part is None or measured is None:
        raise ExperimentError(f"{document['part']} is not known, or nothing was measured")
    return part, measured


def _version(document: Document) -> list[int]:
    numbers = document["kernel"].split("-")[0].split(".")
    return [int(number) for number in numbers if number.isdigit()]
