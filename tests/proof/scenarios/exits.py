# SPDX-License-Identifier: MIT
"""A target that is killed while its tables are walked."""

import errno
import os
import subprocess
import threading
import time

from cleanup import _uapi
from guest import abi
from proof.scenarios.races import Inconclusive, Race, delayed

# As long as a small process takes to end, and longer.
SPIN_SECONDS = 0.2


# Where a call takes locks of its target: first to have its memory, then to walk it.
@delayed(f"down_read_killable:{int(SPIN_SECONDS * 1e6)}")
def may_come_any_time(race: Race) -> None:
    """The target is cleaned without end until there is none."""
    met = 0
    for _ in race.rounds():
        with subprocess.Popen(["taskset", "4", "sleep", "1000"]) as target:
            pidfd = os.pidfd_open(target.pid)
            args = abi.Args(flags=_uapi.WHOLE_MM, pidfd=pidfd)
            seconds = race.chance.uniform(0.5, 4) * SPIN_SECONDS
            killer = threading.Thread(target=_kill_in, args=(target, seconds))
            killer.start()
            begun = time.monotonic()
            try:
                with race.delays():
                    while True:
                        begun = time.monotonic()
                        abi.call(args)
                        met += 1
            except abi.Refused as refusal:
                assert refusal.errno == errno.ESRCH, refusal
                # It had its target, then.
                met += time.monotonic() - begun > SPIN_SECONDS
            killer.join()
            os.close(pidfd)
    if not met:
        raise Inconclusive("no call met its target")


def _kill_in(target: subprocess.Popen[bytes], seconds: float) -> None:
    os.sched_setaffinity(0, {1})
    time.sleep(seconds)
    target.kill()
