# SPDX-License-Identifier: MIT
"""Runs parts here, or each in a guest of the lab that suits it, and merges the results."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypedDict, cast

import cleanup
from cleanup.errors import CleanupError
from experiments.document import SCHEMA, SuiteDocument
from experiments.measure import ExperimentError, Progress
from experiments.suite.part import Guest, Part
from experiments.suite.suite import Suite

_EMULATED = (
    "it takes a processor's times, and an emulator's say nothing of those: run it by --host, or "
    "where the lab has KVM"
)
# What a part takes at most in a guest without KVM.
_SECONDS_A_PART = 3600


class Measured(TypedDict):
    """What one machine has to say; as in SuiteDocument."""

    kernel: str
    kernel_pt_reclaim: bool
    unavailable: dict[str, str]
    parts: dict[str, dict[str, Any]]
    failures: dict[str, str]


def measure(
    suite: Suite, names: Sequence[str], *, quick: bool, seed: int, progress: Progress
) -> Measured:
    """Measure the named parts here, one after the other; one that fails is left out.

    Under an emulator, so are those that take a processor's times.
    """
    features = cleanup.features()
    emulated = os.environ.get("PGTABLE_CLEANUP_ACCELERATOR") == "tcg"
    measured: Measured = {
        "kernel": features.kernel,
        "kernel_pt_reclaim": features.pt_reclaim,
        "unavailable": {},
        "parts": {},
        "failures": {},
    }
    parts = suite.parts()
    for name in names:
        part = parts[name]
        say = partial(_say_of, progress, name)
        if part.guest.hardware and emulated:
            measured["unavailable"][name] = _EMULATED
            continue
        try:
            measured["parts"][name] = part.measure(quick=quick, seed=seed, progress=say)
        except (CleanupError, OSError) as error:
            say(f"failed: {error}")
            measured["failures"][name] = str(error)
    return measured


def _say_of(progress: Progress, name: str, message: str) -> None:
    progress(f"{name}: {message}")


def here(
    suite: Suite, names: Sequence[str], *, quick: bool, seed: int, progress: Progress
) -> SuiteDocument:
    """Run the named parts on this machine, but for those that count instructions."""
    parts = suite.parts()
    unavailable = {
        name: "it counts instructions, which takes a guest of the lab: leave out --host"
        for name in names
        if parts[name].guest.icount
    }
    able = [name for name in names if name not in unavailable]
    measured = measure(suite, able, quick=quick, seed=seed, progress=progress)
    return {
        "experiment": suite.name,
        "schema": SCHEMA,
        "description": suite.description,
        "accelerator": os.environ.get("PGTABLE_CLEANUP_ACCELERATOR", "host"),
        "commit": None,
        "seed": seed,
        "parameters": {"quick": quick},
        "guests": [],
        **measured,
        "unavailable": unavailable | measured["unavailable"],
    }


def in_guests(
    suite: Suite, names: Sequence[str], *, kernel: str, quick: bool, seed: int, progress: Progress
) -> SuiteDocument:
    """Run the named parts in the lab, a guest for each kind that they need.

    What fails in one guest, or the guest itself, costs no other's results.  Raises LabError
    or ExperimentError where none of them has any.
    """
    # A guest, which measures by this file, too, has no use for the lab.
    from experiments import in_lab  # noqa: PLC0415

    answers: list[Measured] = []
    failures: dict[str, str] = {}
    guests: list[dict[str, Any]] = []
    failure: CleanupError | None = None
    known = suite.parts()
    for guest, parts in by_guest([known[name] for name in names]).items():
        there = [part.name for part in parts]
        machine = asdict(guest)
        del machine["hardware"]
        progress(f"{suite.name}: {', '.join(there)}, in the lab, on {kernel}")
        command = [sys.executable, "-P", "-m", "experiments.suite", suite.name, *there]
        try:
            answer, result = in_lab.run_json(
                suite.name,
                [*command, f"--seed={seed}", *(["--quick"] if quick else [])],
                kernel=kernel,
                timeout=_SECONDS_A_PART * len(parts),
                **machine,
            )
        except CleanupError as error:
            failure = error
            failures |= dict.fromkeys(there, str(error))
            continue
        answers.append(cast(Measured, answer))
        guests.append(
            {
                **machine,
                "parts": there,
                "accelerator": result.accelerator,
                "clock": in_lab.clock(result),
            }
        )
    if not answers:
        raise failure or ExperimentError(f"{suite.name}: no part to run")
    return {
        "experiment": suite.name,
        "schema": SCHEMA,
        "description": suite.description,
        "kernel": answers[0]["kernel"],
        "kernel_pt_reclaim": answers[0]["kernel_pt_reclaim"],
        "accelerator": accelerator(guests),
        "commit": None,
        "seed": seed,
        "parameters": {"quick": quick},
        "unavailable": {name: why for one in answers for name, why in one["unavailable"].items()},
        "parts": {name: done for one in answers for name, done in one["parts"].items()},
        "failures": failures
        | {name: why for one in answers for name, why in one["failures"].items()},
        "guests": guests,
    }


def by_guest(parts: Sequence[Part]) -> dict[Guest, list[Part]]:
    """The parts that each kind of guest is to run."""
    groups: dict[Guest, list[Part]] = {}
    for part in parts:
        groups.setdefault(replace(part.guest, hardware=False), []).append(part)
    return groups


def accelerator(guests: Sequence[Mapping[str, Any]]) -> str:
    """That of the guests whose times are taken; TCG where instructions alone are counted."""
    timed = [guest["accelerator"] for guest in guests if not guest["icount"]]
    return str(timed[0]) if timed else "tcg"
