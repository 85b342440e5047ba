# SPDX-License-Identifier: MIT
"""What all stressors have in common."""

import errno
import os
import random
import signal
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

from guest.layout import Area, madvise
from proof.storms.contents import Contents, placed


class Unavailable(Exception):
    """This kernel or machine lacks what a stressor needs; the message says what."""


class Stressor(Protocol):
    """Something that works on memory in a process of its own; `stack` is closed at the end."""

    def __init__(self, stack: ExitStack, chance: random.Random) -> None: ...

    def step(self) -> None:
        """Do one thing; raise AssertionError if a byte was lost."""


class Anonymous:
    """Private anonymous memory with known contents: what most stressors work on."""

    def __init__(self, stack: ExitStack, chance: random.Random) -> None:
        self.chance = chance
        self.contents = Contents(stack.enter_context(placed(0)), chance)

    @property
    def made(self) -> Area:
        return self.contents.made


def forked(work: Callable[[], object]) -> int:
    """Fork a process that does some work and exits, with 1 if it raised; return its pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> int:
    """Wait for a process; return its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed(pid: int) -> None:
    """Kill a process, and wait for it."""
    os.kill(pid, signal.SIGKILL)
    ended(pid)


def tried(advice: int, address: int, length: int) -> None:
    """Call madvise(), where a temporary refusal is no failure."""
    try:
        madvise(address, length, advice)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EBUSY, errno.EINVAL, errno.ENOMEM):
            raise
