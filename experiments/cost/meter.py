# SPDX-License-Identifier: MIT
"""Counts the instructions of an operation and of what it leaves to the kernel's threads.

In a guest whose clock counts instructions, time passes without any while the CPU is idle.
So it never is: a process of the lowest priority counts its own rounds, of two instructions
each, whenever nobody else runs.  What the clock says beyond them was work, whoever did it:
the caller, interrupts, the kernel's threads.  Each iteration of a `rep` counts as one.
"""

import gc
import mmap
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from experiments.cost import _calls
from experiments.part import ExperimentError

_BARRIER = Path("/sys/module/rcutree/parameters/do_rcu_barrier")
# The kernel lets one through every HZ / 16, in seconds; a later one waits.
_BARRIER_INTERVAL = 0.07
_BACKGROUND_SECONDS = 0.05
_BACKGROUND_TRIES = 9
_EMPTY_TRIES = 5
_ETH_P_ALL = 3


def rcu_barrier() -> None:
    """Wait until all RCU callbacks of this CPU have run, those that free page tables among them.

    Linux 6.7 brought a file for it (do_rcu_barrier).  Before, closing a packet socket waits
    for a grace period by a callback of its own, which runs after all that this CPU had
    queued: good for a guest of one CPU.  OSError: root alone may.
    """
    if _BARRIER.exists():
        _BARRIER.write_text("1", encoding="ascii")
    else:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)).close()


@dataclass(frozen=True, slots=True)
class Cost:
    """Instructions of the operation itself, and those until the RCU barrier after it is through."""

    call_instructions: int
    instructions: int


class Meter:
    """See `running`."""

    def __init__(self, counter: memoryview) -> None:
        self._counter = counter
        self._last_barrier = 0.0
        self.background = 0.0
        """Instructions that the kernel's clock interrupt and the like take of each nanosecond."""
        self.empty = Cost(0, 0)
        """An operation that does nothing."""

    def calibrate(self) -> None:
        """Measure what is there without any operation."""
        self.background = median(self._idle_share() for _ in range(_BACKGROUND_TRIES))
        empty = [self.cost(lambda: None) for _ in range(_EMPTY_TRIES)]
        self.empty = Cost(
            round(median(one.call_instructions for one in empty)),
            round(median(one.instructions for one in empty)),
        )

    def cost(self, operation: Callable[[], object]) -> Cost:
        """Run it, and return its instructions with all that is there without it; see `net`."""
        time.sleep(max(0.0, self._last_barrier + _BARRIER_INTERVAL - time.monotonic()))
        gc.disable()
        try:
            begin = self._sample()
            operation()
            called = self._sample()
            rcu_barrier()
            end = self._sample()
        finally:
            gc.enable()
        self._last_barrier = time.monotonic()
        return Cost(
            *(
                round(work - begin[1] - self.background * (ns - begin[0]))
                for ns, work in (called, end)
            )
        )

    def net(self, operation: Callable[[], object]) -> Cost:
        """The instructions of an operation beyond those of one that does nothing."""
        gross = self.cost(operation)
        return Cost(
            gross.call_instructions - self.empty.call_instructions,
            gross.instructions - self.empty.instructions,
        )

    def _idle_share(self) -> float:
        begun_ns, begun = self._sample()
        time.sleep(_BACKGROUND_SECONDS)
        ns, work = self._sample()
        return (work - begun) / (ns - begun_ns)

    def _sample(self) -> tuple[int, int]:
        """Return the clock, and the instructions so far that were not the idle process's."""
        now = time.monotonic_ns()
        return now, now - 2 * self._counter[0]


@contextmanager
def running() -> Iterator[Meter]:
    """A calibrated meter, in a guest of one CPU whose clock counts instructions.

    ExperimentError elsewhere.
    """
    if "PGTABLE_CLEANUP_ICOUNT" not in os.environ or os.cpu_count() != 1:
        raise ExperimentError(
            "instructions are counted in a guest of one CPU: pgtable-cleanup lab run --icount "
            "--cpus 1"
        )
    with mmap.mmap(-1, mmap.PAGESIZE) as shared, memoryview(shared).cast("Q") as counter:
        idle = os.fork()
        if idle == 0:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            _calls.count(counter)
        try:
            meter = Meter(counter)
            meter.calibrate()
            yield meter
        finally:
            os.kill(idle, signal.SIGKILL)
            os.waitpid(idle, 0)
