# SPDX-License-Identifier: MIT
"""The proof by jemalloc's own tests: under the preload library their verdicts are the same.

All programs are run without the library and with it.  Those of test/integration are linked with
libjemalloc.so.2, and are run with the extent hooks, too.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import preloaded
from proof.jemalloc.build import get_tests, programs
from proof.selftests.verdicts import FAIL, PASS, SKIP, TIMEOUT, Difference, Report, differences
from proof.task import Outcome, ProofFailed, Task

# The library's settings on each side, or None where it is not preloaded.
WITHOUT, LIBRARY, HOOKS = "without", "library", "hooks"
SIDES = {
    WITHOUT: None,
    LIBRARY: "backend:null,threshold:1,interval_ms:1,thread:true,stats:exit",
    HOOKS: "backend:null,threshold:1,hooks:jemalloc,stats:exit",
}
# A program whose verdicts differ is run this many more times on each side.
MORE_RUNS = 3
LIMIT = 600.0
# The proof fails unless this many programs and tests ran.
FEWEST_PROGRAMS, FEWEST_TESTS = 100, 500
LAST_LINES = 15

TEST = re.compile(r"(\w+ \((?:non|libc|arena_new)-reentrant\)): (pass|skip|fail)")
WORDS = {"pass": PASS, "skip": SKIP, "fail": FAIL}
# The exit codes of jemalloc's test.h.
CODES = {0: PASS, 1: SKIP, 2: FAIL}
# test/integration/extent expects that an arena has jemalloc's own hooks before it sets others.
EXPLAINED = re.compile(r"\(old_hooks(?:->\w+)?\) == \(default_hooks(?:->\w+)?\)")
FAILED = "Failed assertion: "


class Runs:
    """The runs of the programs on one side."""

    def __init__(self, directory: Path, side: str) -> None:
        self._directory = directory
        self._conf = SIDES[side]
        self.reports: dict[str, list[Report]] = {}
        self.counts: Counter[str] = Counter()
        """What the library counted in the programs."""

    def run(self, program: str) -> Report:
        """Run a program once more."""
        env = {"PATH": os.environ["PATH"], "MALLOC_CONF": self._malloc_conf(program)}
        if self._conf:
            env |= preloaded.environment(self._conf)
        begun = time.monotonic()
        process = subprocess.Popen(
            [program, f"{self._directory}/", f"{self._directory}/"],
            executable=self._directory / program,
            cwd=self._directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        code: int | None = None
        try:
            output, _ = process.communicate(timeout=LIMIT)
            code = process.returncode
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
        for counted in preloaded.stats(output):
            self.counts.update(counted)
        tests = of_tests(output)
        report = Report(program, _whole(code), tests, time.monotonic() - begun, output, ())
        self.reports.setdefault(program, []).append(report)
        return report

    def _malloc_conf(self, program: str) -> str:
        """Return what a program's own shell script sets, as jemalloc's test.sh does."""
        script = self._directory / f"{program}.sh"
        if not script.exists():
            return ""
        return subprocess.run(
            ["sh", "-c", f'. {script}; printf %s "$MALLOC_CONF"'],
            env={"enable_fill": "1", "enable_prof": "1", "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        ).stdout


def of_tests(output: str) -> dict[str, str]:
    """Return the verdicts of a program's tests, from its output."""
    return {name: WORDS[word] for name, word in TEST.findall(output)}


def is_explained(one: Difference, reports: Mapping[str, Sequence[Report]]) -> bool:
    """Say whether a program failed for no other reason than that its arenas have the hooks."""
    failed = [
        line
        for report in reports[one.command]
        for line in report.output.splitlines()
        if FAILED in line
    ]
    return {*one.beside} == {FAIL} and bool(failed) and all(map(EXPLAINED.search, failed))


def _whole(code: int | None) -> str:
    if code is None:
        return TIMEOUT
    return signal.Signals(-code).name if code < 0 else CODES.get(code, f"exit code {code}")


def prove(task: Task) -> Outcome:
    """Run the programs on all sides, and compare the verdicts."""
    directory = get_tests(task.progress)
    runs = {side: Runs(directory, side) for side in SIDES}
    chosen = [program for program in programs(directory) if task.only in program]
    found: dict[str, list[Difference]] = {LIBRARY: [], HOOKS: []}
    for program in chosen:
        first = runs[WITHOUT].run(program)
        sides = [LIBRARY, HOOKS] if program.startswith("test/integration/") else [LIBRARY]
        for side in sides:
            report = runs[side].run(program)
            if report.verdicts != first.verdicts:
                for _ in range(MORE_RUNS):
                    runs[WITHOUT].run(program)
                    runs[side].run(program)
            found[side] += differences(runs[WITHOUT].reports[program], runs[side].reports[program])
        _say(f"{program}: {first.verdict}, {_counted([first])}, {first.seconds:.1f} s")
    for side, all_of_it in found.items():
        for one in all_of_it:
            _say(_described(one, side, runs[side]))
    if told := _complaints(runs, found, whole=not task.only):
        raise ProofFailed("; ".join(told))
    return Outcome(_document(runs, found), "")


def _complaints(
    runs: Mapping[str, Runs], found: Mapping[str, Sequence[Difference]], *, whole: bool
) -> list[str]:
    told = []
    for side, all_of_it in found.items():
        changed = [
            one
            for one in all_of_it
            if not one.unstable and not (side == HOOKS and is_explained(one, runs[side].reports))
        ]
        if changed:
            told.append(f"{len(changed)} verdicts differ ({side})")
    if late := sorted({each.command for each in _reports(runs) if each.verdict == TIMEOUT}):
        told.append(f"out of time: {', '.join(late)}")
    if not runs[LIBRARY].counts["drains"]:
        told.append("the library did not drain")
    firsts = [reports[0] for reports in runs[WITHOUT].reports.values()]
    tests = sum(len(first.tests) for first in firsts)
    if whole and (len(firsts) < FEWEST_PROGRAMS or tests < FEWEST_TESTS):
        told.append(f"only {len(firsts)} programs with {tests} tests ran")
    if whole and not runs[HOOKS].counts["hook_units"]:
        told.append("the hooks gave back no unit")
    return told


def _document(
    runs: Mapping[str, Runs], found: Mapping[str, Sequence[Difference]]
) -> dict[str, Any]:
    return {
        "sides": {
            side: {
                "programs": len(of.reports),
                "tests": _counted([reports[0] for reports in of.reports.values()]),
                "counts": {name: of.counts[name] for name in ("notes", "drains", "hook_units")},
                "seconds": round(sum(one.seconds for each in of.reports.values() for one in each)),
            }
            for side, of in runs.items()
        },
        "differences": {
            side: [{**asdict(one), "unstable": one.unstable} for one in all_of_it]
            for side, all_of_it in found.items()
        },
        "explained": sum(is_explained(one, runs[HOOKS].reports) for one in found[HOOKS]),
        "verdicts": {
            command: {"program": reports[0].verdict, "tests": _counted(reports[:1])}
            for command, reports in runs[WITHOUT].reports.items()
        },
    }


def _reports(runs: Mapping[str, Runs]) -> list[Report]:
    return [one for of in runs.values() for each in of.reports.values() for one in each]


def _counted(reports: Sequence[Report]) -> dict[str, int]:
    return dict(Counter(verdict for report in reports for verdict in report.tests.values()))


def _described(one: Difference, side: str, runs: Runs) -> str:
    text = (
        f"{'unstable' if one.unstable else 'DIFFERENT'}: {one.command}: "
        f"{one.test or 'as a whole'}: {', '.join(one.without)} without, "
        f"{', '.join(one.beside)} with ({side})"
    )
    lines = runs.reports[one.command][0].output.splitlines()[-LAST_LINES:]
    return text if one.unstable else "\n    ".join([text, *lines])


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
