# SPDX-License-Identifier: MIT
"""Runs parts here, or each in a guest of the lab that suits it, and merges the results."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypedDict, cast

import cleanup
from cleanup.errors import CleanupError
from cleanup.experiments.cost.part import Guest, Part
from cleanup.experiments.cost.parts import registry
from cleanup.experiments.document import SCHEMA, CostDocument
from cleanup.experiments.measure import Progress

NAME = "reclaim-cost"
DESCRIPTION = (
    "cost of freeing empty page tables by the module and by what a program can do without it: "
    "instructions, shootdowns, lock holds"
)
# What a part takes at most in a guest without KVM.
_SECONDS_A_PART = 900


class Measured(TypedDict):
    """What one machine has to say; as in CostDocument."""

    kernel: str
    kernel_pt_reclaim: bool
    parts: dict[str, dict[str, Any]]
    failures: dict[str, str]


def measure(names: Sequence[str], *, quick: bool, seed: int, progress: Progress) -> Measured:
    """Measure the named parts here, one after the other; one that fails is left out."""
    features = cleanup.features()
    measured: Measured = {
        "kernel": features.kernel,
        "kernel_pt_reclaim": features.pt_reclaim,
        "parts": {},
        "failures": {},
    }
    for name in names:
        try:
            result = registry()[name].measure(
                quick=quick, seed=seed, progress=lambda said, name=name: progress(f"{name}: {said}")
            )
        except (CleanupError, OSError) as error:
            progress(f"{name} failed: {error}")
            measured["failures"][name] = str(error)
        else:
            measured["parts"][name] = result
    return measured


def here(names: Sequence[str], *, quick: bool, seed: int, progress: Progress) -> CostDocument:
    """Run the named parts on this machine, but for those that count instructions."""
    unavailable = {
        name: "it counts instructions, which takes a guest of the lab: leave out --host"
        for name in names
        if registry()[name].guest.icount
    }
    able = [name for name in names if name not in unavailable]
    measured = measure(able, quick=quick, seed=seed, progress=progress)
    return {
        **_header(names, quick, seed),
        **measured,
        "accelerator": "host",
        "unavailable": unavailable,
        "guests": [],
    }


def in_guests(
    names: Sequence[str], *, kernel: str, quick: bool, seed: int, progress: Progress
) -> CostDocument:
    """Run the named parts in the lab, a guest for each kind that they need.

    Raises LabError, and ExperimentError where a guest ends without a result.
    """
    # A guest, which measures by this file, too, has no use for the lab.
    from cleanup.experiments import in_lab  # noqa: PLC0415

    document = {**_header(names, quick, seed), "unavailable": {}, "parts": {}, "failures": {}}
    guests = []
    for guest, parts in by_guest([registry()[name] for name in names]).items():
        there = [part.name for part in parts]
        progress(f"{NAME}: {', '.join(there)}, in the lab, on {kernel}")
        answer, result = in_lab.run_json(
            NAME,
            [
                *[sys.executable, "-P", "-m", "cleanup.experiments.cost", *there],
                *[f"--seed={seed}", *(["--quick"] if quick else [])],
            ],
            kernel=kernel,
            timeout=_SECONDS_A_PART * len(parts),
            **asdict(guest),
        )
        measured = cast(Measured, answer)
        document["parts"] |= measured.pop("parts")
        document["failures"] |= measured.pop("failures")
        document |= measured
        document["accelerator"] = result.accelerator
        guests.append({**asdict(guest), "parts": there, "clock": in_lab.clock(result)})
    return cast(CostDocument, {**document, "guests": guests})


def by_guest(parts: Sequence[Part]) -> dict[Guest, list[Part]]:
    """The parts that each kind of guest is to run."""
    groups: dict[Guest, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.guest, []).append(part)
    return groups


def _header(names: Sequence[str], quick: bool, seed: int) -> dict[str, Any]:
    return {
        "experiment": NAME,
        "schema": SCHEMA,
        "description": DESCRIPTION,
        "kernel": "",
        "kernel_pt_reclaim": False,
        "accelerator": "",
        "commit": None,
        "seed": seed,
        "parameters": {"parts": list(names), "quick": quick},
    }
