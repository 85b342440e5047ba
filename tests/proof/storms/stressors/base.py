# SPDX-License-Identifier: MIT
"""What a stressor is."""

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
    """This kernel or machine has no such thing; the message says which."""


class Stressor(Protocol):
    """Made in its own process, with the resources that `stack` closes at the end."""

    def __init__(self, stack: ExitStack, chance: random.Random) -> None: ...

    def step(self) -> None:
        """Do one thing, and see that no byte was lost.  AssertionError where one was."""


class Anonymous:
    """Private anonymous memory with known contents: what most stressors work on."""

    def __init__(self, stack: ExitStack, chance: random.Random) -> None:
        self.chance = chance
        self.contents = Contents(stack.enter_context(placed(0)), chance)

    @property
    def made(self) -> Area:
        return self.contents.made


def forked(work: Callable[[], object]) -> int:
    """The pid of a process that does some work and exits: with 0, or 1 where it raised."""
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
    """Wait for a process; its exit code, or the signal that killed it, negative."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed(pid: int) -> None:
    """End a process."""
    os.kill(pid, signal.SIGKILL)
    ended(pid)


def tried(advice: int, address: int, length: int) -> None:
    """madvise() where a refusal, for now, is no failure."""
    try:
        madvise(address, length, advice)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EBUSY, errno.EINVAL, errno.ENOMEM):
            raise
