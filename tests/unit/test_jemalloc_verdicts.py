# SPDX-License-Identifier: MIT
"""Tests of how the verdicts of jemalloc's own tests are read, and when a change is explained."""

import pytest

from proof.jemalloc.prove import is_explained, of_tests
from proof.selftests.verdicts import Difference, Report

OUTPUT = """\
test_manual_hook_body:extent.c:179: Failed assertion: (old_hooks) == (default_hooks)
test_extent_manual_hook (non-reentrant): fail
pgtable-cleanup: extent[13718]: notes=16 units=0
test_extent_auto_hook (libc-reentrant): pass
test_huge (arena_new-reentrant): skip
--- pass: 1/3, skip: 1/3, fail: 1/3 ---
"""
OTHER = "test_body:test/integration/extent.c:9: Failed assertion: (p) != (NULL)\n"


def test_every_test_has_its_verdict() -> None:
    assert of_tests(OUTPUT) == {
        "test_extent_manual_hook (non-reentrant)": "fail",
        "test_extent_auto_hook (libc-reentrant)": "pass",
        "test_huge (arena_new-reentrant)": "skip",
    }


@pytest.mark.parametrize(
    ("output", "beside", "explained"),
    [
        (OUTPUT, "fail", True),
        (OUTPUT + OTHER, "fail", False),
        ("", "fail", False),
        (OUTPUT, "SIGSEGV", False),
    ],
)
def test_only_the_question_whose_hooks_these_are_is_explained(
    output: str, beside: str, explained: bool
) -> None:
    report = Report("extent", beside, of_tests(output), 0.1, output, ())
    difference = Difference("extent", "", ("pass",), (beside,))
    assert is_explained(difference, {"extent": [report]}) == explained
