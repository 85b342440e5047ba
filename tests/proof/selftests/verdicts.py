# SPDX-License-Identifier: MIT
"""Verdicts on selftests, read from a program's exit code and its output, and compared."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

PASS, FAIL, SKIP, XFAIL, TIMEOUT, ABSENT = "pass", "fail", "skip", "xfail", "timeout", "absent"
# These are the exit codes of kselftest.h; every other one is a failure.
EXIT_CODES = {0: PASS, 2: XFAIL, 4: SKIP}

WHOLE = ""
"""Stands for the program itself among the names of its tests."""

# "ok 3 name", "not ok 3 name", "ok 3 # SKIP name" and "ok 3 name # SKIP why"
TAP = re.compile(r"(not )?ok \d+\b[\s-]*(.*?)\s*(?:# (SKIP|XFAIL|error)\b\s*(.*))?")
# pagemap_ioctl.c puts what it measured into the name of a test.
MEASURED = re.compile(r"(Extra pages|extra thread faults) \d+(?: \([\d.]+%\))?")
TAP_WORDS = {"SKIP": SKIP, "XFAIL": XFAIL, "error": FAIL}
# uffd-unit-tests.c prints a test's name, maybe some output of the test, and then its verdict.
UFFD_BEGIN = re.compile(r"Testing (.+?)\.\.\. ?(.*)")
UFFD_END = re.compile(r"(done|skipped|failed)\b.*")
UFFD_WORDS = {"done": PASS, "skipped": SKIP, "failed": FAIL}
# khugepaged.c prints a line for each step of a test, and one of these words at its end, in colour.
KHUGEPAGED_BEGIN = re.compile(r"Run test: (.+)")
KHUGEPAGED_STEP = re.compile(r".*\b(OK|Skip|Fail|Timeout)\b.*")
KHUGEPAGED_WORDS = {"OK": PASS, "Skip": SKIP, "Fail": FAIL, "Timeout": FAIL}
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Report:
    """The result of one run of a program."""

    command: str
    verdict: str
    tests: Mapping[str, str]
    """The verdict of each of its tests."""
    seconds: float
    output: str
    freed: tuple[int, ...]
    """Tables that the cleaner freed meanwhile, by level."""

    @property
    def verdicts(self) -> Mapping[str, str]:
        """Return the verdicts of the program and of its tests."""
        return {WHOLE: self.verdict, **self.tests}

    @property
    def tried(self) -> bool:
        """Return whether the program ran to its end, and did not skip all its tests."""
        skipped = self.tests and set(self.tests.values()) == {SKIP}
        return self.verdict in (PASS, FAIL) and not skipped

    def verdict_of(self, test: str) -> str:
        """Return the verdict of one test, or of the program; ABSENT if there is none."""
        return self.verdicts.get(test, ABSENT)


def of_program(code: int | None, tests: Mapping[str, str]) -> str:
    """Return the verdict of a whole program by its exit code: None says it ran out of time."""
    if code is None:
        return TIMEOUT
    if code < 0:
        return signal.Signals(-code).name
    # The exit code of khugepaged.c is its number of failures.
    return FAIL if FAIL in tests.values() else EXIT_CODES.get(code, FAIL)


def of_tests(output: str) -> dict[str, str]:
    """Return the verdicts of the tests in a program's output; a second test `a` is `a (2)`."""
    found: dict[str, str] = {}
    for name, verdict in _told(output):
        key, number = name, 1
        while key in found:
            number += 1
            key = f"{name} ({number})"
        found[key] = verdict
    return found


def _told(output: str) -> Iterator[tuple[str, str]]:
    lines = [COLOUR.sub("", line).strip() for line in output.splitlines()]
    for line in lines:
        if tap := TAP.fullmatch(line):
            wrong, name, directive, rest = tap.groups()
            verdict = TAP_WORDS[directive] if directive else FAIL if wrong else PASS
            yield MEASURED.sub(r"\1 N", name or rest), verdict
    yield from _uffd(lines)
    yield from _khugepaged(lines)


def _uffd(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    name = None
    for line in lines:
        said = line
        if begin := UFFD_BEGIN.fullmatch(line):
            name, said = begin.groups()
        if name and (end := UFFD_END.fullmatch(said)):
            yield name, UFFD_WORDS[end[1]]
            name = None


def _khugepaged(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    name = None
    steps: set[str] = set()
    for line in (*lines, "Run test: the end"):
        if begin := KHUGEPAGED_BEGIN.fullmatch(line):
            if name:
                yield name, next((word for word in (FAIL, SKIP) if word in steps), PASS)
            name, steps = begin[1], set()
        elif step := KHUGEPAGED_STEP.fullmatch(line):
            steps.add(KHUGEPAGED_WORDS[step[1]])


def differing(one: Report, other: Report) -> list[str]:
    """Return the names of the tests whose verdicts differ; WHOLE stands for the program."""
    names = dict.fromkeys([*one.verdicts, *other.verdicts])
    return [name for name in names if one.verdict_of(name) != other.verdict_of(name)]


@dataclass(frozen=True)
class Difference:
    """A test whose verdict was not the same in all runs."""

    command: str
    test: str
    without: tuple[str, ...]
    """Its verdicts without a cleaner, run by run."""
    beside: tuple[str, ...]
    """Its verdicts beside a cleaner, run by run."""

    @property
    def unstable(self) -> bool:
        """Return whether verdicts vary without a cleaner already, and a cleaner adds no other."""
        return len(set(self.without)) > 1 and set(self.beside) <= set(self.without)


def differences(without: Sequence[Report], beside: Sequence[Report]) -> list[Difference]:
    """Return what differs between all runs of one program, without a cleaner and beside one."""
    reports = (*without, *beside)
    found = []
    for name in dict.fromkeys(name for report in reports for name in report.verdicts):
        sides = [tuple(report.verdict_of(name) for report in side) for side in (without, beside)]
        if len({*sides[0], *sides[1]}) > 1:
            found.append(Difference(without[0].command, name, *sides))
    return found
