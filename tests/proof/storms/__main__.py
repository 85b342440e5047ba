# SPDX-License-Identifier: MIT
"""In a guest: stressors, each in a process of its own, and cleaners on all of them, for so long.

    PYTHONPATH=tests:build/python python -P -m proof.storms --seconds 60 --seed 1

Prints one JSON document.  Exits with 1 where a byte was lost, the kernel complained, or something
never happened: a step of a stressor, a table freed at each level, a table that had filled again
when it was locked, a lock that was not to be had.
"""

import argparse
import json
import os
import random
import secrets
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from cleanup.lab.dmesg import Mark
from proof import results
from proof.storms import machine
from proof.storms.cleaners import Cleaners
from proof.storms.processes import Process, Step
from proof.storms.stressors import STRESSORS, Stressor

MODULE = "pgtable_cleanup"
REQUIRED = ("freed pte", "freed pmd", "freed pud", "skipped refilled", "skipped contended")
SHOWN = ("calls", *REQUIRED)


class Storm:
    """Stressors and cleaners at work."""

    def __init__(self, kinds: list[type[Stressor]], cleaners: int, seed: int) -> None:
        self.stressors = [_stressor(kind, seed) for kind in kinds]
        self.cleaners = Cleaners(cleaners, [each.pidfd for each in self.stressors], seed)
        # Among so many stressors cleaners would hardly run.
        os.nice(-10)
        self.cleaners.start()
        self.reloads = 0
        self.failures: list[str] = []
        self.unavailable: dict[str, str] = {}

    @property
    def failed(self) -> bool:
        """Whether there is no use in going on."""
        return (
            bool(self.failures)
            or self.cleaners.failed
            or any(each.failed for each in self.stressors)
        )

    def reload(self, module: Path) -> None:
        """rmmod, refused while cleaners have the device open, then not; and insmod."""
        while not self.cleaners.at_work:
            if self.failed:
                return
            time.sleep(0.01)
        try:
            machine.remove(MODULE)
        except BlockingIOError:
            pass
        else:
            self.failures.append("rmmod succeeded while the device was open")
            return
        self.failures += self.cleaners.stop()
        machine.remove(MODULE)
        machine.insert(module)
        self.cleaners.start()
        self.reloads += 1

    def end(self) -> None:
        """Have all end, the cleaners last."""
        for each in self.stressors:
            each.stop()
        for each in self.stressors:
            end = each.join()
            if end.failed:
                self.failures.append(f"{each.name}, step {each.steps}: {end.reason}")
            elif end.reason:
                self.unavailable[each.name] = end.reason
        self.failures += self.cleaners.stop()

    def figures(self) -> results.Figures:
        """What was done."""
        return {
            "steps": self.steps(),
            "unavailable": self.unavailable,
            "reloads": self.reloads,
            "cleaners": {name: count for name, count in self.cleaners.counts().items() if count},
        }

    def steps(self) -> dict[str, int]:
        """Of each stressor that there is here."""
        return {
            each.name: each.steps for each in self.stressors if each.name not in self.unavailable
        }

    def missing(self, required: Iterable[str]) -> list[str]:
        """The stressors that never took a step, and what the cleaners were to count and did not."""
        counts = self.cleaners.counts()
        never = [name for name, number in self.steps().items() if not number]
        return [*never, *(name for name in required if not counts[name])]

    def progress(self) -> str:
        """What has been done so far."""
        counts = self.cleaners.counts()
        done = [f"{counts[name]} {name}" for name in SHOWN]
        return ", ".join([f"{sum(self.steps().values())} steps", *done])


def _stressor(kind: type[Stressor], seed: int) -> Process:
    def make(stack: ExitStack, _: memoryview) -> Step:
        return kind(stack, random.Random(f"{seed} {kind.__name__}")).step

    return Process(kind.__name__, make)


def main() -> int:
    wanted = _arguments()
    if "PGTABLE_CLEANUP_LAB" not in os.environ:
        sys.exit("storms change the machine's settings: run them in a guest, by make storms")
    begun = time.monotonic()
    _log("preparing")
    machine.prepare()
    if wanted.shadow:
        machine.insert(wanted.shadow)
    mark = Mark()
    kinds = [kind for kind in STRESSORS if not wanted.only or kind.__name__ in wanted.only]
    storm = Storm(kinds, wanted.cleaners, wanted.seed)
    _log(f"--seed {wanted.seed}: {len(kinds)} stressors, {wanted.cleaners} cleaners")
    started = shown = time.monotonic()
    while not storm.failed:
        now = time.monotonic()
        if now >= started + wanted.seconds and storm.reloads == wanted.reloads:
            break
        if storm.reloads < (now - started) / wanted.seconds * wanted.reloads:
            storm.reload(wanted.module)
        if now >= shown + 10:
            shown = now
            _log(f"{now - started:.0f} s: {storm.progress()}")
        time.sleep(0.1)
    storm.end()
    _log(f"ended: {storm.progress()}")
    missing = storm.missing(() if wanted.only else REQUIRED)
    failures = [
        *storm.failures,
        *mark.reports(),
        *(f"never happened: {name}" for name in missing),
    ]
    figures = storm.figures() | {"failures": failures}
    made = results.document("storms", wanted.seed, begun, figures)
    sys.stdout.write(json.dumps(made, indent=1) + "\n")
    for failure in failures:
        _log(f"FAILED: {failure}")
    if not failures:
        results.keep(made)
    return int(bool(failures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="proof.storms", description=__doc__)
    names = [kind.__name__ for kind in STRESSORS]
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--cleaners", type=int, default=3)
    parser.add_argument("--reloads", type=int, default=0, help="rmmod and insmod so often")
    parser.add_argument("--module", type=Path, default=Path("/run/lab/module.ko"))
    parser.add_argument("--shadow", type=Path, help="the module of tests/proof/modules/shadow")
    return parser.parse_args()


def _log(line: str) -> None:
    sys.stderr.write(f"storms: {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
