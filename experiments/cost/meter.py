# SPDX-License-Identifier: MIT
"""A meter of an operation's instructions, and of the work that it leaves to the kernel's threads.

The guest's clock counts instructions, but it also advances while the CPU is idle.  So the
CPU never idles: a process of the lowest priority counts rounds of two instructions whenever
nothing else runs.  All instructions beyond these rounds were work, whoever did it: the
caller, interrupts, the kernel's threads.  Each iteration of a `rep` instruction counts as one.
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
# The kernel lets one RCU barrier through in HZ / 16 (0.0625 s); one that comes earlier waits.
_BARRIER_INTERVAL = 0.07
_BACKGROUND_SECONDS = 0.05
_BACKGROUND_TRIES = 9
_EMPTY_TRIES = 5
_ETH_P_ALL = 3


def rcu_barrier() -> None:
    """Wait until all RCU callbacks of this CPU have run, those that free page tables among them.

    Linux has a file for this since 6.7 (do_rcu_barrier).  On older kernels a packet socket is
    closed: that waits for a callback which runs after all that this CPU had queued, so it
    is enough in a guest of one CPU.  Raises OSError without root.
    """
    if _BARRIER.exists():
        _BARRIER.write_text("1", encoding="ascii")
    else:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)).close()


@dataclass(frozen=True, slots=True)
class Cost:
    """Instructions of an operation alone, and those up to the end of the RCU barrier after it."""

    call_instructions: int
    instructions: int


class Meter:
    """A counter of the instructions of operations; `running` makes and calibrates one."""

    def __init__(self, counter: memoryview) -> None:
        self._counter = counter
        self._last_barrier = 0.0
        self.background = 0.0
        """Instructions per nanosecond that clock interrupts and other background work take."""
        self.empty = Cost(0, 0)
        """The cost of an operation that does nothing."""

    def calibrate(self) -> None:
        """Measure the background, and the cost of an operation that does nothing."""
        self.background = median(self._idle_share() for _ in range(_BACKGROUND_TRIES))
        empty = [self.cost(lambda: None) for _ in range(_EMPTY_TRIES)]
        self.empty = Cost(
            round(median(one.call_instructions for one in empty)),
            round(median(one.instructions for one in empty)),
        )

    def cost(self, operation: Callable[[], object]) -> Cost:
        """Run an operation, and return its instructions together with those of the measuring."""
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
        """Run an operation, and return its instructions beyond those of one that does nothing."""
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
        """Return the clock, and the instructions so far that the idle process did not run."""
        now = time.monotonic_ns()
        return now, now - 2 * self._counter[0]


@contextmanager
def running() -> Iterator[Meter]:
    """Yield a calibrated meter, in a guest of one CPU whose clock counts instructions.

    Raises ExperimentError elsewhere.
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
