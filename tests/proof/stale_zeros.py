# SPDX-License-Identifier: MIT
"""In a guest with three CPUs: does one ever read zero after another CPU has written there?

    PYTHONPATH=tests:build/editable python -P -m proof.stale_zeros --rounds 1000000

This repeats the race of tests/guest/stale_zeros.py for that many rounds.  Ranges of many tables and
of few take turns.  It prints figures as JSON, and exits with 1 where a zero was stale, a page
was not zero before, the kernel complained, or too few zero pages were dropped for a race.
"""

import argparse
import json
import os
import sys

from cleanup.lab.dmesg import Mark
from guest.stale_zeros import CPUS, PAGES, race
from proof import results

# The number of batches between two lines of progress.
BATCHES = 64
# The tables in one range of a call: for many the kernel flushes the whole TLB, for few a range.
UNITS = (PAGES, 16)


def main() -> int:
    """Run the race, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m proof.stale_zeros", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1_000_000)
    wanted: int = parser.parse_args().rounds
    if (os.cpu_count() or 1) < CPUS:
        sys.exit("reader, writer and cleaner need a CPU each: make prove-zeros-6.12")
    mark = Mark()
    rounds = not_zero = stale = dropped = 0
    while rounds < wanted and not stale and not not_zero:
        seen = race(UNITS[rounds // (BATCHES * PAGES) % len(UNITS)], BATCHES)
        rounds += BATCHES * PAGES
        not_zero += seen.not_zero
        stale += seen.stale
        dropped += seen.dropped
        sys.stderr.write(f"{rounds:,} of {wanted:,} rounds, {dropped:,} zero pages dropped\n")
    failures = mark.reports()
    if stale or not_zero:
        failures.append(f"{stale} zeros read after a write, {not_zero} pages not zero before")
    if dropped < rounds // 4:
        failures.append(f"{dropped} zero pages dropped: too few for a race")
    figures: results.Figures = {
        "rounds": rounds,
        "zero_pages_dropped": dropped,
        "stale": stale,
        "not_zero": not_zero,
        "failures": failures,
    }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    if not failures:
        results.keep("figures", figures)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
