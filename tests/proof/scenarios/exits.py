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

# Longer than a small process takes to end, and its memory to go.
SPIN_SECONDS = 1.0
# Of the spins of a call before it, and of the one that the target is killed in.
BEFORE, WITHIN = (1, 2), 0.1
TARGET_CPU = 2


# Where a call takes locks of its target: first to have its memory, then to walk it.
@delayed(f"down_read_killable:{int(SPIN_SECONDS * 1e6)}")
def may_come_any_time(race: Race) -> None:
    """The target is cleaned without end until there is none."""
    met = 0
    for number in race.rounds():
        with subprocess.Popen(["taskset", "-c", str(TARGET_CPU), "sleep", "1000"]) as target:
            pidfd = os.pidfd_open(target.pid)
            args = abi.Args(flags=_uapi.WHOLE_MM, pidfd=pidfd)
            spins = BEFORE[number % len(BEFORE)] + race.chance.uniform(WITHIN, 2 * WITHIN)
            killer = threading.Thread(target=_kill_in, args=(target, spins * SPIN_SECONDS))
            begun = time.monotonic()
            try:
                with race.delays():
                    killer.start()
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
    target.wait()
    # An idle CPU keeps the memory of who ran there last, until somebody else does.
    os.sched_setaffinity(0, {TARGET_CPU})
