# SPDX-License-Identifier: MIT
"""A target that is killed while its tables are walked."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable

from cleanup import _uapi
from guest import abi
from guest.layout import Child, area
from proof.scenarios.races import Inconclusive, Race, delayed

TABLES = 64


# Where a call takes the mmap lock of its target, once it has the target.
@delayed("down_read_killable:20000")
def may_come_any_time(race: Race) -> None:
    """The target is cleaned without end until there is none."""
    met = 0
    for _ in race.rounds():
        target = Child(_fill)
        pidfd = os.pidfd_open(target.pid)
        args = abi.Args(flags=_uapi.WHOLE_MM, pidfd=pidfd)
        seconds = race.chance.uniform(0.02, 0.25)
        killer = threading.Thread(target=_kill_in, args=(target.pid, seconds))
        killer.start()
        try:
            with race.delays():
                while True:
                    abi.call(args)
                    met += 1
        except abi.Refused as refusal:
            assert refusal.errno == errno.ESRCH, refusal
            met += refusal.answer.tables > 0
        killer.join()
        os.close(pidfd)
        target.reap()
    if not met:
        raise Inconclusive("no call met its target")


def _fill(pause: Callable[[], None]) -> None:
    os.sched_setaffinity(0, {2})
    with area(TABLES) as made:
        made.touch()
        made.release()
        pause()


def _kill_in(pid: int, seconds: float) -> None:
    os.sched_setaffinity(0, {1})
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
