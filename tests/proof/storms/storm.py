# SPDX-License-Identifier: MIT
"""Stressors and cleaners at work, and what came of it."""

import os
import random
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from proof import results
from proof.storms import machine
from proof.storms.cleaners import Cleaners
from proof.storms.processes import Process, Step
from proof.storms.stressors import Stressor

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
    def _failed(self) -> bool:
        """Whether there is no use in going on."""
        return (
            bool(self.failures)
            or self.cleaners.failed
            or any(each.failed for each in self.stressors)
        )

    def run(self, seconds: float, reloads: int, module: Path) -> None:
        """Let it go on for so long, unless something fails; the module is replaced meanwhile."""
        started = shown = time.monotonic()
        while not self._failed:
            now = time.monotonic()
            if now >= started + seconds and self.reloads == reloads:
                break
            if self.reloads < (now - started) / seconds * reloads:
                self._reload(module)
            if now >= shown + 10:
                shown = now
                log(f"{now - started:.0f} s: {self.progress()}")
            time.sleep(0.1)
        self._end()

    def _reload(self, module: Path) -> None:
        """rmmod, refused while cleaners have the device open, then not; and insmod."""
        while not self.cleaners.at_work:
            if self._failed:
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

    def _end(self) -> None:
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


def log(line: str) -> None:
    """Tell on standard error."""
    sys.stderr.write(f"storms: {line}\n")
    sys.stderr.flush()
