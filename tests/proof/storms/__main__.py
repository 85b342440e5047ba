# SPDX-License-Identifier: MIT
"""Run a storm in a guest: stressors, each in a process, and cleaners that free their tables.

    PYTHONPATH=tests:build/editable python -P -m proof.storms --seconds 60 --seed 1

It prints figures as JSON, and exits with 1 where a byte was lost, the kernel complained, or
something never happened that must: a step of each stressor, a table freed at each level, a table
that had filled again when it was locked, a lock that was contended.
"""

import argparse
import json
import os
import secrets
import sys
from collections import Counter
from pathlib import Path

from cleanup.lab.dmesg import Mark, races_of_the_kernel, reports
from proof import results
from proof.storms import machine
from proof.storms.storm import REQUIRED, Storm, log
from proof.storms.stressors import STRESSORS


def main() -> int:
    wanted = _arguments()
    if "PGTABLE_CLEANUP_LAB" not in os.environ:
        sys.exit(
            "storms change the machine's settings: run them in a guest: make prove-storms-6.12"
        )
    log("preparing")
    machine.prepare()
    if wanted.shadow:
        machine.insert(wanted.shadow)
    found_race = machine.finds_races(wanted.race) if wanted.race else None
    mark = Mark()
    kinds = [kind for kind in STRESSORS if not wanted.only or kind.__name__ in wanted.only]
    storm = Storm(kinds, wanted.cleaners, wanted.seed)
    log(f"--seed {wanted.seed}: {len(kinds)} stressors, {wanted.cleaners} cleaners")
    required = () if wanted.only else REQUIRED
    storm.run(wanted.seconds, wanted.reloads, wanted.module, required)
    log(f"ended: {storm.progress()}")
    logged = "\n".join(mark.lines())
    failures = [
        *storm.failures,
        *reports(logged),
        *(f"never happened: {name}" for name in storm.missing(required)),
    ]
    figures = storm.figures()
    if (watched := machine.watchpoints()) is not None:
        races = Counter(races_of_the_kernel(logged))
        figures |= {"watchpoints": watched, "races_of_the_kernel": races}
        if not watched:
            failures.append("never happened: a watchpoint of KCSAN's")
    if found_race is not None:
        figures |= {"race_on_purpose_reported": found_race}
        if not found_race:
            failures.append("never happened: a report of the race made on purpose")
    figures |= {"failures": failures}
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    for failure in failures:
        log(f"FAILED: {failure}")
    if not failures:
        results.keep("figures", figures)
    return int(bool(failures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="proof.storms", description=__doc__)
    names = [kind.__name__ for kind in STRESSORS]
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--cleaners", type=int, default=3)
    parser.add_argument("--reloads", type=int, default=0, help="rmmod and insmod so often")
    parser.add_argument("--module", type=Path, default=Path("/run/lab/module.ko"))
    parser.add_argument("--shadow", type=Path, help="the module of tests/proof/modules/shadow")
    parser.add_argument("--race", type=Path, help="that of race: KCSAN must report it first")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
