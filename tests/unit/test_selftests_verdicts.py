# SPDX-License-Identifier: MIT
"""Tests of verdicts on the kernel's selftests: how output is read, which differences count."""

import pytest

from proof.selftests.programs import LEFT_OUT, PROGRAMS
from proof.selftests.verdicts import (
    ABSENT,
    FAIL,
    PASS,
    SKIP,
    TIMEOUT,
    WHOLE,
    XFAIL,
    Difference,
    Report,
    differences,
    differing,
    of_program,
    of_tests,
)

TAP = """\
TAP version 13
1..8
# [INFO] detected THP size: 2048 KiB
ok 1 Basic COW after fork() ... with base page
not ok 2 Basic COW after fork() ... with swapped-out, base page
ok 3 # SKIP vmsplice() ... liburing support
ok 4 # XFAIL zap through a mapping
not ok 5 # error no memory
#  RUN           migration.shared_anon ...
ok 6 migration.shared_anon # SKIP no second node
ok 7 2MB mremap - Source PTE-aligned
\tmremap time:      1234ns
ok 8 2MB mremap - Source PTE-aligned
 ok 9 - indented
# ok 10 said by a child
# Totals: pass:3 fail:1 xfail:1 xpass:0 skip:2 error:1
"""

MEASURED = "ok 100 transact_test Extra pages 32 (0.1%), extra thread faults 38.\n"

UFFD = """\
Testing UFFDIO_API (with syscall)... done
Testing register-ioctls on anon... skipped [reason: feature missing]
Testing move on anon... ERROR: pages differ (errno=0, @uffd-unit-tests.c:1)
failed [reason: moved too late]
Testing events on shmem... done
Testing poison on hugetlb... killed
"""

KHUGEPAGED = """\
Save THP and khugepaged settings... \x1b[32mOK\x1b[0m

Run test: collapse_full (khugepaged:anon)
Allocate huge page... \x1b[32mOK\x1b[0m
Collapse multiple fully populated PTE table..... \x1b[32mOK\x1b[0m

Run test: collapse_empty (khugepaged:anon)
Do not collapse empty PTE table... \x1b[31mFail\x1b[0m
Do not collapse another... \x1b[32mOK\x1b[0m

Run test: collapse_max_ptes_swap (madvise:anon)
Swapout 65 of 512 pages... \x1b[33mSkip\x1b[0m

Run test: collapse_fork (khugepaged:anon)
Check if parent still has small page...... \x1b[31mTimeout\x1b[0m
"""


def test_tap() -> None:
    assert of_tests(TAP) == {
        "Basic COW after fork() ... with base page": PASS,
        "Basic COW after fork() ... with swapped-out, base page": FAIL,
        "vmsplice() ... liburing support": SKIP,
        "zap through a mapping": XFAIL,
        "no memory": FAIL,
        "migration.shared_anon": SKIP,
        "2MB mremap - Source PTE-aligned": PASS,
        "2MB mremap - Source PTE-aligned (2)": PASS,
        "indented": PASS,
    }


def test_what_uffd_unit_tests_prints() -> None:
    assert of_tests(UFFD) == {
        "UFFDIO_API (with syscall)": PASS,
        "register-ioctls on anon": SKIP,
        "move on anon": FAIL,
        "events on shmem": PASS,
    }


def test_what_khugepaged_prints() -> None:
    assert of_tests(KHUGEPAGED) == {
        "collapse_full (khugepaged:anon)": PASS,
        "collapse_empty (khugepaged:anon)": FAIL,
        "collapse_max_ptes_swap (madvise:anon)": SKIP,
        "collapse_fork (khugepaged:anon)": FAIL,
    }


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(0, PASS), (1, FAIL), (2, XFAIL), (4, SKIP), (255, FAIL), (-11, "SIGSEGV"), (None, TIMEOUT)],
)
def test_exit_codes(code: int | None, verdict: str) -> None:
    assert of_program(code, {"a": PASS}) == verdict


def test_an_exit_code_may_count_failures() -> None:
    assert of_program(4, {"a": PASS, "b": FAIL}) == FAIL


def report(verdict: str = PASS, **tests: str) -> Report:
    return Report("program -x", verdict, tests, 0.0, "", (0, 0, 0))


def test_what_is_skipped_as_a_whole_has_not_run() -> None:
    assert report(PASS).tried
    assert report(FAIL, a=FAIL).tried
    assert report(PASS, a=SKIP, b=PASS).tried
    assert not report(PASS, a=SKIP, b=SKIP).tried
    assert not report(SKIP).tried
    assert not report(TIMEOUT, a=PASS).tried


def test_the_same_does_not_differ() -> None:
    one, other = report(FAIL, a=PASS, b=SKIP), report(FAIL, b=SKIP, a=PASS)
    assert differing(one, other) == []
    assert differences([one], [other]) == []


def test_a_test_that_changes_is_named_and_so_is_one_that_is_gone() -> None:
    one, other = report(PASS, a=PASS, b=PASS), report(FAIL, a=FAIL)
    assert differing(one, other) == [WHOLE, "a", "b"]
    assert differences([one], [other]) == [
        Difference("program -x", WHOLE, (PASS,), (FAIL,)),
        Difference("program -x", "a", (PASS,), (FAIL,)),
        Difference("program -x", "b", (PASS,), (ABSENT,)),
    ]


def test_only_what_varies_without_a_cleaner_in_the_same_way_is_unstable() -> None:
    def unstable(without: list[str], beside: list[str]) -> bool:
        (found,) = differences(
            [report(a=each) for each in without], [report(a=each) for each in beside]
        )
        return found.unstable

    assert unstable([PASS, PASS, FAIL, PASS], [FAIL, PASS, PASS, PASS])
    assert unstable([PASS, FAIL], [PASS, PASS])
    assert not unstable([PASS, PASS, PASS, PASS], [FAIL, PASS, PASS, PASS])
    assert not unstable([FAIL, FAIL], [PASS, PASS])
    assert not unstable([PASS, SKIP], [FAIL, PASS])


def test_every_run_has_a_name_of_its_own_and_what_is_left_out_is_not_run() -> None:
    commands = [program.command for program in PROGRAMS]
    assert len(commands) == len(set(commands))
    assert not {program.executable for program in PROGRAMS} & set(LEFT_OUT)


def test_what_was_measured_is_no_part_of_a_name() -> None:
    assert of_tests(MEASURED) == {"transact_test Extra pages N, extra thread faults N.": PASS}
