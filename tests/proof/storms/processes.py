# SPDX-License-Identifier: MIT
"""Processes that repeat a step until they are told to stop."""

import mmap
import os
import select
import signal
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from proof.storms.stressors import Unavailable

# Indexes of the numbers shared with the parent; from OWN on they are the process's own counts.
STOP, STEPS, OWN = range(3)
# A step takes seconds on a debug kernel with a dozen others beside it.
LONGEST_STEP = 120
FAILED, UNAVAILABLE = 1, 77

Step = Callable[[], object]


@dataclass(frozen=True)
class End:
    """The end of a process; `reason` says why it failed, or could not begin."""

    failed: bool
    reason: str


class Process:
    """A forked process that calls the step that `make` returns, over and over.

    `make` gets a stack that is closed when the process ends, and the numbers that are shared with
    the parent: the process counts in those from OWN on.
    """

    def __init__(self, name: str, make: Callable[[ExitStack, memoryview], Step]) -> None:
        self.name = name
        self.numbers = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        self._said = os.memfd_create(name)
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(self._run(make))
        self.pidfd = os.pidfd_open(self.pid)

    def _run(self, make: Callable[[ExitStack, memoryview], Step]) -> int:
        # ps and the kernel's reports call the process and its children by this name.
        Path("/proc/self/comm").write_text(self.name)
        try:
            with ExitStack() as stack:
                step = make(stack, self.numbers)
                while not self.numbers[STOP]:
                    step()
                    self.numbers[STEPS] += 1
        except Unavailable as reason:
            os.write(self._said, str(reason).encode())
            return UNAVAILABLE
        except BaseException:
            os.write(self._said, traceback.format_exc().encode())
            return FAILED
        return 0

    @property
    def steps(self) -> int:
        """Return the number of steps done."""
        return self.numbers[STEPS]

    @property
    def failed(self) -> bool:
        """Return whether the process has ended with a failure already."""
        return self._ended_with() not in (None, 0, UNAVAILABLE)

    @property
    def unavailable(self) -> bool:
        """Return whether the process has ended already because it could not begin."""
        return self._ended_with() == UNAVAILABLE

    def _ended_with(self) -> int | None:
        if self._status is not None:
            return self._status
        end = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return None if end is None else end.si_status

    def stop(self) -> None:
        """Tell the process to end after its current step."""
        self.numbers[STOP] = 1

    def join(self) -> End:
        """Wait for the process to end; one that hangs is killed, and has failed."""
        stuck = ""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if not poll.poll(LONGEST_STEP * 1000):
            stuck = f"step {self.steps} took over {LONGEST_STEP} s\n{_blocked()}"
            os.kill(self.pid, signal.SIGKILL)
        code = self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        said = os.pread(self._said, 1 << 16, 0).decode()
        os.close(self.pidfd)
        os.close(self._said)
        if code in (0, UNAVAILABLE):
            return End(failed=False, reason=said)
        return End(failed=True, reason=stuck or said or f"ended with {code}")


def _blocked() -> str:
    """Return the kernel stacks of all processes in uninterruptible sleep."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # PID (NAME) STATE ...
            what, _, rest = (process / "stat").read_text().rpartition(") ")
            if rest.startswith("D"):
                found.append(f"{what}) {rest[:40]}\n{(process / 'stack').read_text()}")
        except OSError:
            continue
    return "\n".join(found)
