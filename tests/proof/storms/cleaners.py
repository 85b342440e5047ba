# SPDX-License-Identifier: MIT
"""Processes that free empty tables as fast as they can."""

import errno
import os
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from cleanup import _uapi
from guest import abi
from proof.storms.contents import SPAN
from proof.storms.processes import OWN, Process, Step

# What a cleaner counts, in the order of its numbers in shared memory.
COUNTS = (
    "calls",
    *(f"freed {level}" for level in _uapi.LEVELS),
    "zero pages dropped",
    *(f"skipped {reason}" for reason in _uapi.SKIP_REASONS.values()),
)
# ESRCH: no such process, or a kernel thread.  EAGAIN: a lock is busy.  ENOMEM: SPAN has holes.
HARMLESS = (errno.ESRCH, errno.EAGAIN, errno.ENOMEM)


class Cleaner:
    """Frees tables in the memory of stressors, whose pidfds `targets` are.

    Without targets it frees tables in the whole memory of all processes.
    """

    def __init__(
        self,
        stack: ExitStack,
        numbers: memoryview,
        chance: random.Random,
        targets: Sequence[int],
    ) -> None:
        self._device = _uapi.open_device()
        stack.callback(os.close, self._device)
        self._numbers = numbers
        self._chance = chance
        self._targets = targets
        self._pids: list[int] = []

    def step(self) -> None:
        """Clean one process: a random target, or the next one of all processes."""
        if self._targets:
            self._clean(self._chance.choice(self._targets), abi.Args([SPAN]))
            return
        if not self._pids:
            self._pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        with suppress(ProcessLookupError):
            pidfd = os.pidfd_open(self._pids.pop())
            self._clean(pidfd, abi.Args(flags=_uapi.WHOLE_MM))
            os.close(pidfd)

    def _clean(self, pidfd: int, args: abi.Args) -> None:
        choice = self._chance.choice
        args.pidfd = pidfd
        args.flags |= choice((0, 0, _uapi.ZERO_PAGES, _uapi.SCAN_ONLY))
        args.levels = choice((abi.LEVEL_PTE, abi.ALL_LEVELS, abi.ALL_LEVELS))
        args.max_tables = choice((0, 0, 0, 5))
        args.max_hold_ns = choice((0, 0, 20_000))
        more = True
        while more:
            try:
                answer = abi.call(args, self._device)
                more = args.go_on(answer)
            except abi.Refused as refusal:
                if refusal.errno not in HARMLESS:
                    raise
                answer = refusal.answer
                more = False
            self._count(answer)

    def _count(self, answer: abi.Answer) -> None:
        numbers = (
            1,
            answer.freed,
            *answer.upper_freed,
            answer.zero_pages_dropped,
            *(answer.skipped.get(reason, 0) for reason in _uapi.SKIP_REASONS.values()),
        )
        for index, number in enumerate(numbers, OWN):
            self._numbers[index] += number


class Cleaners:
    """Several cleaners at a time; each gets an element of `targets`, in turn."""

    def __init__(self, number: int, targets: Sequence[Sequence[int]], seed: int) -> None:
        self._number = number
        self._targets = targets
        self._seed = seed
        self._starts = 0
        self._running: list[Process] = []
        self._ended: Counter[str] = Counter()

    def start(self) -> None:
        """Start the cleaners."""
        self._starts += 1
        self._running = [self._start(number) for number in range(self._number)]

    def _start(self, number: int) -> Process:
        def make(stack: ExitStack, numbers: memoryview) -> Step:
            chance = random.Random(f"{self._seed} {self._starts} {number}")
            targets = self._targets[number % len(self._targets)]
            return Cleaner(stack, numbers, chance, targets).step

        return Process(f"cleaner {number}", make)

    @property
    def at_work(self) -> bool:
        """Return whether each cleaner has called the module since it began."""
        return all(process.numbers[OWN] for process in self._running)

    @property
    def failed(self) -> bool:
        """Return whether a cleaner has failed already."""
        return any(process.failed for process in self._running)

    def counts(self) -> Counter[str]:
        """Return the counts of all cleaners, those that have ended included."""
        total = Counter(self._ended)
        for process in self._running:
            total.update(dict(zip(COUNTS, process.numbers[OWN:], strict=False)))
        return total

    def stop(self) -> list[str]:
        """End the cleaners, which closes the device; return their failures."""
        for process in self._running:
            process.stop()
        ends = [(process.name, process.join()) for process in self._running]
        self._ended = self.counts()
        self._running = []
        return [f"{name}: {end.reason}" for name, end in ends if end.failed]
