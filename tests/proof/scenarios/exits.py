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

# An injected delay, long enough for a small process to end and to lose its memory meanwhile.
SPIN_SECONDS = 1.0
# Each lock of the target delays the call by one spin.  The target is killed after one or two whole
# spins, and 0.1 to 0.2 of the next.
BEFORE, WITHIN = (1, 2), 0.1
TARGET_CPU = 2


# A call takes locks of its target here: first to get at its memory, then to walk it.
@delayed(f"down_read_killable:{int(SPIN_SECONDS * 1e6)}")
def may_come_any_time(race: Race) -> None:
    """A target may be killed at any time while it is cleaned: the call then fails with ESRCH."""
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
                # A refused call that lasted longer than the module's delay had found its target.
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
    # An idle CPU keeps the memory of the process that it ran last, until this thread moves there.
    os.sched_setaffinity(0, {TARGET_CPU})
