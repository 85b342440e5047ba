# SPDX-License-Identifier: MIT
"""The dmesg gate: finds the lines of a kernel's log that report a bug."""

import os
import re

REPORT = re.compile(
    r"""
      \bBUG\b[: ] | \bkernel\ BUG\b | \bWARNING: | \[\ cut\ here\ \]
    | \bOops\b | \bgeneral\ protection\b | \bunable\ to\ handle\b | \bdouble\ fault\b
    | \bKernel\ panic\b | \bstack\ guard\ page\b | \bstack-protector\b
    | \bK[ACM]SAN\b | \bKFENCE: | \bUBSAN: | \bkmemleak:.*\bsuspected\b
    # lockdep's reports that don't begin with WARNING
    | \blocking\ dependency\b | \brecursive\ locking\b | \binconsistent\ lock\ state\b
    | \block\ inversion\b | \bbad\ unlock\ balance\b | \bheld\ lock\ freed\b
    | \block\ held\ when\ returning\b | \bDEBUG_LOCKS_WARN_ON\b
    | \bsuspicious\ RCU\b | \brcu.*\bstall | \brcu.*\bstarved\b
    | \btask\ .*\bblocked\ for\ more\ than\b | \bsoft\ lockup\b | \bhard\ LOCKUP\b
    | \bscheduling\ while\ atomic\b | \bsleeping\ function\ called\b
    | \bBad\ (?:page|rss-counter|swap)\b | \bbad\ p(?:te|md|ud|4d|gd)\b
    | \bnon-zero\ pgtables_bytes\b | \blist_(?:add|del)\ corruption\b
    | \brefcount_t: | \bODEBUG: | \bnobody\ cared\b
    """,
    re.VERBOSE,
)
# These lines report a user program's own faults, or remark on the processor.
HARMLESS = re.compile(r"\btraps: |\bSpectre\b|\bRETBleed\b")
RACE = re.compile(r"\bBUG: (KCSAN: .*)")
RACE_END = "Reported by Kernel Concurrency Sanitizer"
# In the stacks that KCSAN reports, this stands behind each function of the module.
OURS = "[pgtable_cleanup"
# Races in ktime_get() are harmless: a reader that meets an update reads again (a seqcount).
BY_DESIGN = re.compile(r"\bktime_get\b")


def reports(log: str) -> list[str]:
    """Return the lines of a kernel log that report a bug.

    KCSAN also reports data races of Linux itself: a race counts only if the module takes part.
    """
    lines = log.splitlines()
    return [
        line.strip()
        for number, line in enumerate(lines)
        if REPORT.search(line)
        and not HARMLESS.search(line)
        and not (RACE.search(line) and not _is_ours(lines, number))
    ]


def races_of_the_kernel(log: str) -> list[str]:
    """Return the titles of KCSAN's reports that `reports` leaves out: the races of Linux itself."""
    lines = log.splitlines()
    found = ((number, RACE.search(line)) for number, line in enumerate(lines))
    return [race[1].strip() for number, race in found if race and not _is_ours(lines, number)]


def _is_ours(lines: list[str], first: int) -> bool:
    """Say whether a race at line ``first`` names the module or is cut off, and isn't BY_DESIGN."""
    if BY_DESIGN.search(lines[first]):
        return False
    for line in lines[first:]:
        if OURS in line:
            return True
        if RACE_END in line:
            return False
    return True


class Mark:
    """A place in the running kernel's log. Setting one needs the right to read /dev/kmsg.

    ::

        mark = Mark()
        ...
        assert not mark.reports()
    """

    def __init__(self) -> None:
        """Mark the log's present end."""
        self._log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._log, 0, os.SEEK_END)

    def close(self) -> None:
        """Forget the mark."""
        os.close(self._log)

    def lines(self) -> list[str]:
        """Return the lines that the kernel logged since the mark or the last call."""
        found: list[str] = []
        while True:
            try:
                record = os.read(self._log, 1 << 16)
            except BlockingIOError:
                return found
            except BrokenPipeError:
                # Unread records were overwritten; the next read gets the oldest record left.
                continue
            text = record.decode(errors="replace").partition(";")[2]
            # Further lines that begin with a blank are the record's key=value pairs.
            first, *more = text.splitlines() or [""]
            found += [first, *(line for line in more if not line.startswith(" "))]

    def reports(self) -> list[str]:
        """Return the lines that report a bug, logged since the mark or the last call."""
        return reports("\n".join(self.lines()))
