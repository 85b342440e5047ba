# SPDX-License-Identifier: MIT
"""A storm: stressors and cleaners at work, and the figures and failures that it has."""

import os
import random
import sys
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from pathlib import Path

from proof import results
from proof.storms import machine
from proof.storms.cleaners import Cleaners
from proof.storms.processes import Process, Step
from proof.storms.stressors import IN_THE_WAY, Stressor

MODULE = "pgtable_cleanup"
REQUIRED = ("freed pte", "freed pmd", "freed pud", "skipped refilled", "skipped contended")
SHOWN = ("calls", *REQUIRED)
LEAST_PATIENCE = 600


class Storm:
    """Stressors and cleaners at work."""

    def __init__(self, kinds: list[type[Stressor]], cleaners: int, seed: int) -> None:
        self.stressors = [_stressor(kind, seed) for kind in kinds]
        everything: list[int] = []
        each = [process.pidfd for process in self.stressors]
        in_the_way = [pidfd for pidfd, kind in zip(each, kinds, strict=True) if kind in IN_THE_WAY]
        self.cleaners = Cleaners(cleaners, [everything, each, in_the_way or each], seed)
        # Without a higher priority, cleaners would hardly run among so many stressors.
        os.nice(-10)
        self.cleaners.start()
        self.reloads = 0
        self._shown = time.monotonic()
        self.failures: list[str] = []
        self.unavailable: dict[str, str] = {}

    @property
    def _failed(self) -> bool:
        """Return whether something has failed, so that it is no use going on."""
        return (
            bool(self.failures)
            or self.cleaners.failed
            or any(each.failed for each in self.stressors)
        )

    def run(
        self, seconds: float, reloads: int, module: Path, required: Collection[str] = ()
    ) -> None:
        """Let the storm last `seconds`, or until something fails; reload the module meanwhile.

        If something is still `missing` then, as on a busy machine, the storm goes on until nothing
        is: for as long again at most, or for ten minutes if that is longer.
        """
        self._work(seconds / (reloads + 1))
        while self.reloads < reloads and not self._failed:
            self._reload(module)
            self._work(seconds / (reloads + 1))
        late = time.monotonic() + max(seconds, LEAST_PATIENCE)
        self._wait(lambda: not self.missing(required) or time.monotonic() >= late)
        self._end()

    def _work(self, seconds: float) -> None:
        self._wait(lambda: self.cleaners.at_work)
        end = time.monotonic() + seconds
        self._wait(lambda: time.monotonic() >= end)

    def _wait(self, until: Callable[[], bool]) -> None:
        while not (until() or self._failed):
            time.sleep(0.1)
            now = time.monotonic()
            if now >= self._shown + 10:
                self._shown = now
                log(self.progress())

    def _reload(self, module: Path) -> None:
        """Replace the module; rmmod must be refused while cleaners have the device open."""
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
        log(f"{self.reloads} times replaced")

    def _end(self) -> None:
        """End all processes, the cleaners last."""
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
        """Return the counts of all that was done."""
        return {
            "steps": self.steps(),
            "unavailable": self.unavailable,
            "reloads": self.reloads,
            "cleaners": {name: count for name, count in self.cleaners.counts().items() if count},
        }

    def steps(self) -> dict[str, int]:
        """Return the number of steps of each stressor that can run on this machine."""
        return {each.name: each.steps for each in self.stressors if not each.unavailable}

    def missing(self, required: Iterable[str]) -> list[str]:
        """Return the stressors without a step, and the `required` counts that are still zero."""
        counts = self.cleaners.counts()
        never = [name for name, number in self.steps().items() if not number]
        return [*never, *(name for name in required if not counts[name])]

    def progress(self) -> str:
        """Return a line that says what has been done so far."""
        counts = self.cleaners.counts()
        done = [f"{counts[name]} {name}" for name in SHOWN]
        return ", ".join([f"{sum(self.steps().values())} steps", *done])


def _stressor(kind: type[Stressor], seed: int) -> Process:
    def make(stack: ExitStack, _: memoryview) -> Step:
        return kind(stack, random.Random(f"{seed} {kind.__name__}")).step

    return Process(kind.__name__, make)


def log(line: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"storms: {line}\n")
    sys.stderr.flush()
