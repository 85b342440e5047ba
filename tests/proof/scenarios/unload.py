# SPDX-License-Identifier: MIT
"""The module is unloaded while tables that it freed still wait to be given back."""

import os
import subprocess
import time
from collections.abc import Callable

from _raw import syscall

from cleanup import _uapi
from guest import abi
from guest.layout import Child, area
from proof.scenarios.races import Inconclusive, Race, delayed

TABLES = 4096
SYS_DELETE_MODULE = 176
READER_SECONDS = 4


# getpgid() calls this function in an RCU read-side critical section.
@delayed(f"find_task_by_vpid:{READER_SECONDS * 1_000_000}")
def right_after_a_reclaim(race: Race) -> None:
    """RCU callbacks that are code of the module must have run before its code is freed.

    A reader holds the grace period up until the module is about to go.  Then thousands of callbacks
    are due at once, and take longer than the one grace period that the kernel waits for by
    itself before it frees a module's code.
    """

    def read(pause: Callable[[], None]) -> None:
        os.sched_setaffinity(0, {0})
        pause()
        with race.delays():
            os.getpgid(1)

    name = bytearray(b"pgtable_cleanup\0")
    with area(TABLES) as made:
        for _ in race.rounds():
            made.touch()
            made.release()
            reader = Child(read)
            reader.resume()
            time.sleep(READER_SECONDS / 8)
            # The callbacks run on the CPU of the call; rmmod, which waits for them, is on another.
            os.sched_setaffinity(0, {1})
            answer = abi.call(abi.Args([made.span]))
            os.sched_setaffinity(0, {2})
            if reader.ended():
                raise Inconclusive("the grace period was over already")
            assert answer.freed == TABLES
            syscall(SYS_DELETE_MODULE, _uapi.address_of(name), os.O_NONBLOCK)
            assert os.waitstatus_to_exitcode(reader.reap()) == 0, "no reader held it up"
            subprocess.run(["insmod", os.environ["PGTABLE_CLEANUP_MODULE"]], check=True)
