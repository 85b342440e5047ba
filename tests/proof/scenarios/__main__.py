# SPDX-License-Identifier: MIT
"""Play races with the module, in widened windows; each race tests one protection of the module.

    python -m proof.scenarios [--seconds S] faults.no_write_is_lost:1 exits.may_come_any_time:2

This runs in a guest.  Each SCENARIO:SEED passes with the module and fails, or has the kernel
complain, where the protection that it tests is switched off: see tests/proof/mutations.  Each
result is printed as a line of JSON.  With --load the module is replaced first.
"""

import argparse
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from functools import partial

from cleanup.lab.dmesg import Mark
from guest.settings import one_cpu
from proof.scenarios.races import Delays, Inconclusive, Race, Scenario

READY = "ready"
KERNEL_COMPLAINED = 3
# The kernel logs this before the line that says what is wrong.
CUT = "cut here"
LONGEST_REPORT = 500
# Seconds that a busy machine may add to the time of a scenario.
SPARE_SECONDS = 130
# The kernel logs this when a process ends that has lost a page along with a table.  The kernel can
# go on after that.
LOST_PAGE = "Bad rss-counter state"


def main() -> int:
    """Play the jobs that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m proof.scenarios")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each (default: 5)")
    parser.add_argument("--load", metavar="KO", help="replace the module by this build first")
    parser.add_argument("--until", metavar="OUTCOME", help="end with the first that has it")
    parser.add_argument("jobs", nargs="+", metavar="SCENARIO:SEED")
    given = parser.parse_args()
    jobs = [Job(text) for text in given.jobs]
    with one_cpu():
        if given.load:
            subprocess.run(["rmmod", "pgtable_cleanup"], check=True)
            subprocess.run(["insmod", given.load], check=True)
        delays = Delays(job.scenario for job in jobs)
    # From here on, a scenario has caused whatever the kernel complains of.
    say(READY)
    for job in jobs:
        mark = Mark()
        outcome, report, ended = job.play(given.seconds, delays)
        reports = [line for line in mark.reports() if CUT not in line]
        mark.close()
        if reports and outcome != "failed":
            outcome, report = "failed", reports[0]
        answer = {
            "job": job.text,
            "outcome": outcome,
            "report": report,
            "complained": bool(reports) or not ended,
        }
        say(json.dumps(answer))
        if not ended or any(LOST_PAGE not in line for line in reports):
            return KERNEL_COMPLAINED
        if outcome == given.until:
            break
    return 0


def say(line: str) -> None:
    """Write a line to the host."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Job:
    """A scenario and the seed to play it with, parsed from SCENARIO:SEED."""

    def __init__(self, text: str) -> None:
        self.text = text
        name, _, seed = text.rpartition(":")
        module, _, function = name.partition(".")
        self.scenario: Scenario = getattr(
            importlib.import_module(f"proof.scenarios.{module}"), function
        )
        self.seed = int(seed)

    def play(self, seconds: float, delays: Delays) -> tuple[str, str, bool]:
        """Play in a child process; return the outcome, the reason, and whether the child ended.

        The child may never end: a fault on a table that was freed and reused can repeat forever.
        """
        said, say = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                outcome, report = self._played(seconds, delays)
                os.write(say, json.dumps((outcome, report[:LONGEST_REPORT])).encode())
            finally:
                os._exit(0)
        os.close(say)
        limit = SPARE_SECONDS + 4 * seconds
        if not select.select([said], [], [], limit)[0]:
            os.kill(pid, signal.SIGKILL)
            return "failed", f"the scenario was not done within {limit:g} s", False
        # One read gets the whole answer.  EOF may never come: a grandchild may hold the pipe open.
        text = os.read(said, select.PIPE_BUF)
        os.close(said)
        # When the child is reaped, the kernel has checked its memory and freed it.
        status = os.waitpid(pid, 0)[1]
        if not text:
            return "failed", f"the scenario's process ended with status {status:#x}", True
        outcome, report = json.loads(text)
        return outcome, report, True

    def _played(self, seconds: float, delays: Delays) -> tuple[str, str]:
        try:
            self.scenario(Race(self.seed, seconds, partial(delays.of, self.scenario)))
        except Inconclusive as reason:
            return "inconclusive", str(reason)
        except Exception as failure:
            traceback.print_exc()
            return "failed", f"{type(failure).__name__}: {failure}"
        return "passed", ""


if __name__ == "__main__":
    sys.exit(main())
