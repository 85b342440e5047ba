# SPDX-License-Identifier: MIT
"""Tests of the packages' public names, and of what these promise to their users."""

import ast
import copy
import importlib.metadata
import inspect
import pickle
import re
import typing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import allocator_shim
import allocator_shim.errors
import allocator_shim.jemalloc
import allocator_shim.preloaded
import cleanup
from cleanup import Levels, Range, Result, SkipReason, _uapi, result

ROOT = Path(__file__).parents[2]
MODULES = (
    cleanup,
    allocator_shim,
    allocator_shim.errors,
    allocator_shim.jemalloc,
    allocator_shim.preloaded,
)
RESULT = Result(
    tables=Levels(10, 2, 1),
    empty=Levels(pte=4),
    freed=Levels(pte=3),
    skipped={SkipReason.MAPPED: 6, SkipReason.CONTENDED: 1, "reason_23": 1},
    complete=True,
)


def names(module: ModuleType) -> Iterator[str]:
    """Yield the public names of a module."""
    yield from getattr(module, "__all__", ()) or (
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    )


def functions() -> Iterator[tuple[str, typing.Any]]:
    """Yield all public functions, classes, and methods of classes, with their names."""
    for module in MODULES:
        for name in names(module):
            value = getattr(module, name)
            if not callable(value):
                continue
            yield f"{module.__name__}.{name}", value
            if inspect.isclass(value):
                for method, code in vars(value).items():
                    code = code.fget if isinstance(code, property) else code  # noqa: PLW2901
                    code = getattr(code, "__func__", code)  # noqa: PLW2901
                    if inspect.isfunction(code):
                        yield f"{module.__name__}.{name}.{method}", code


FUNCTIONS = dict(functions())


def test_the_version_is_the_distributions() -> None:
    assert cleanup.__version__ == importlib.metadata.version("pgtable-cleanup")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        cleanup.nonsense  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_type_hints_resolve_at_run_time(name: str) -> None:
    typing.get_type_hints(FUNCTIONS[name])


def test_what_the_calls_take_is_in_their_hints() -> None:
    for function in (cleanup.scan, cleanup.reclaim):
        hints = typing.get_type_hints(function)
        assert set(hints) == {*inspect.signature(function).parameters, "return"}
        assert int in typing.get_args(hints["target"])
        assert hints["return"] is Result


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.count(".") == 1])
def test_every_public_name_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(FUNCTIONS[name])


def test_no_two_public_classes_of_one_name() -> None:
    found = Counter(
        node.name
        for path in (ROOT / "cleanup").rglob("*.py*")
        if path.suffix in (".py", ".pyi")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, number in found.items() if number > 1] == []


def test_skip_reasons_are_the_c_headers() -> None:
    header = (ROOT / "kmod/include/uapi/pgtable_cleanup.h").read_text()
    body = re.search(r"enum pgtable_cleanup_skip \{(.*?)\}", header, re.DOTALL)
    assert body
    words = re.findall(r"PGTABLE_CLEANUP_SKIP_(\w+),", body[1])
    assert [reason.name for reason in SkipReason] == words
    assert [str(reason) for reason in SkipReason] == [word.lower() for word in words]
    assert dict(enumerate(SkipReason)) == _uapi.SKIP_REASONS


@pytest.mark.parametrize("reason", SkipReason)
def test_each_skip_reason_is_explained(reason: SkipReason) -> None:
    assert reason.__doc__ != SkipReason.__doc__
    assert reason.__doc__
    assert reason.__doc__[0].isupper()
    assert reason.__doc__.endswith((".", "again."))
    assert reason in (SkipReason.__doc__ or "")


def test_a_result_is_pickled() -> None:
    for again in (pickle.loads(pickle.dumps(RESULT)), copy.deepcopy(RESULT)):  # noqa: S301
        assert again == RESULT
        assert list(again.skipped) == list(RESULT.skipped)
        with pytest.raises(TypeError):
            again.skipped["mapped"] = 0  # type: ignore[index]


def test_a_result_is_hashed_by_its_value() -> None:
    turned = dict(reversed(list(RESULT.skipped.items())))
    same = Result(RESULT.tables, RESULT.empty, RESULT.freed, turned, complete=True)
    assert same == RESULT
    assert len({RESULT, same, Result()}) == 2


def test_a_result_does_not_change_with_the_dictionary_it_was_made_of() -> None:
    skipped = {"mapped": 1}
    made = Result(skipped=skipped)
    skipped["mapped"] = 2
    assert made.skipped == {"mapped": 1}


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        (
            RESULT,
            (
                "4 of 13 page tables were empty, 3 were freed (12 KiB); left alone: 6 mapped, "
                "1 contended, 1 reason_23"
            ),
        ),
        (Result(tables=Levels(7), empty=Levels(1), complete=True), "1 of 7 page tables was empty"),
        (
            Result(zero_pages_dropped=512, holes=1, calls=1),
            (
                "0 of 0 page tables were empty; 512 zero-page entries dropped; 1 unmapped holes in "
                "the ranges; ended before all was seen"
            ),
        ),
    ],
    ids=["reclaim", "scan", "part"],
)
def test_a_result_prints_as_a_sentence(counts: Result, sentence: str) -> None:
    assert str(counts) == sentence


def test_the_reasons_of_a_call_are_skip_reasons() -> None:
    counts = _uapi.Counts(0, 0, 0, 0, (1, 0, 0), (0, 0, 0), (0, 0, 0), 0, (1,), 0, 0)
    (reason,) = result.of_call(counts).skipped
    assert reason is SkipReason.MAPPED
    assert result.of_call(counts).to_json()["skipped"] == {"mapped": 1}


def test_a_range_is_a_pair_that_has_names() -> None:
    one = Range(4096, 8192)
    assert one == (4096, 8192)
    assert (one.address, one.length, one.end) == (4096, 8192, 12288)


@pytest.mark.parametrize("call", [cleanup.scan, cleanup.reclaim, cleanup.page_tables])
def test_what_is_no_pid_is_refused(call: typing.Callable[[object], object]) -> None:
    for value in (True, False):
        with pytest.raises(TypeError, match=f"a pid is an int, not {value}"):
            call(value)
    for number in (0, -1):
        with pytest.raises(ValueError, match="a pid is at least 1"):
            call(number)
    with pytest.raises(TypeError):
        call("4711")


def test_a_failure_has_its_hint_apart_and_is_pickled() -> None:
    error = cleanup.ProcessGone(3, "pid 4711: no such process", RESULT, hint="look it up")
    assert str(error) == "pid 4711: no such process: look it up"
    wanted = {"message": "pid 4711: no such process", "errno": "ESRCH", "hint": "look it up"}
    assert error.to_json() == wanted
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (again.errno, again.result, str(again)) == (3, RESULT, str(error))
    assert cleanup.CleanupError("so").to_json() == {"message": "so", "errno": None, "hint": None}
