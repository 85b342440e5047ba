# SPDX-License-Identifier: MIT
"""Tests of requests over the resumable ioctl, with a model of the module in place of the ioctl."""

import errno
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup import _uapi
from cleanup.errors import CallFailed, Contended, NotPermitted, ProcessGone, Unmapped
from cleanup.request import Request, carry_out
from cleanup.result import Result

NR_SKIPS = 24
CONTENDED = next(index for index, name in _uapi.SKIP_REASONS.items() if name == "contended")


@dataclass
class Model:
    """Stands in for the module: a range of length N has N empty tables, a whole mm has `whole`.

    A call ends after `batch` tables. Addresses don't matter: next_addr counts the tables done.
    """

    batch: int = 1 << 62
    whole: int = 0
    holes: int = 0
    error: int = 0
    freeing: bool = True
    before: Callable[[], object] = lambda: None
    calls: list[dict[str, object]] = field(default_factory=list)

    def __call__(
        self,
        *,
        flags: int,
        levels: int,
        pidfd: int,
        ranges: Sequence[tuple[int, int]],
        max_tables: int,
        max_hold_ns: int,
        cursor: tuple[int, int, int],
    ) -> _uapi.Counts:
        self.before()
        self.calls.append({"flags": flags, "ranges": ranges, "max_tables": max_tables})
        self.calls[-1] |= {"levels": levels, "pidfd": pidfd, "max_hold_ns": max_hold_ns}
        whole = bool(flags & _uapi.WHOLE_MM)
        lengths = [self.whole] if whole else [length for _, length in ranges]
        room = min(self.batch, max_tables or self.batch)
        (index, _level, done), seen = cursor, 0
        while index < len(lengths) and seen < room:
            step = min(lengths[index] - done, room - seen)
            seen, done = seen + step, done + step
            if done == lengths[index]:
                index, done = index + 1, 0
        frees = self.freeing and not flags & _uapi.SCAN_ONLY
        skipped = [0] * NR_SKIPS
        if not frees:
            skipped[CONTENDED] = seen
        counts = _uapi.Counts(
            next_range=index,
            next_level=0,
            next_addr=done,
            holes=self.holes,
            tables=(seen, 0, 0),
            empty=(seen, 0, 0),
            freed=(seen if frees else 0, 0, 0),
            zero_pages_dropped=0,
            skipped=tuple(skipped),
            flushes=1,
            longest_hold_ns=100 + len(self.calls),
        )
        if self.error:
            raise _uapi.CallError(self.error, counts)
        return counts


REQUEST = Request(
    what="pid 4711",
    flags=0,
    levels=1,
    pidfd=-1,
    ranges=None,
    max_tables=None,
    max_hold_ns=0,
)


def run(model: Model, request: Request, max_ranges: int = 1024) -> Result:
    return carry_out(model, request, max_ranges=max_ranges, progress=None)


@given(
    lengths=st.lists(st.integers(0, 20), max_size=12),
    batch=st.integers(1, 30),
    max_ranges=st.integers(1, 5),
    flags=st.sampled_from([0, _uapi.SCAN_ONLY]),
)
def test_the_total_does_not_depend_on_where_calls_end(
    lengths: list[int], batch: int, max_ranges: int, flags: int
) -> None:
    ranges = tuple((0, length) for length in lengths)
    result = run(Model(batch=batch), replace(REQUEST, ranges=ranges, flags=flags), max_ranges)
    assert result.complete
    assert result.tables.pte == result.empty.pte == sum(lengths)
    assert result.freed.pte == (0 if flags else sum(lengths))


@given(
    whole=st.integers(0, 50),
    batch=st.integers(1, 10),
    limit=st.integers(1, 60),
    flags=st.sampled_from([0, _uapi.SCAN_ONLY]),
)
def test_max_tables_bounds_the_total_over_all_calls(
    whole: int, batch: int, limit: int, flags: int
) -> None:
    model = Model(batch=batch, whole=whole)
    result = run(model, replace(REQUEST, max_tables=limit, flags=flags))
    assert result.tables.pte == min(whole, limit)
    assert result.complete == (whole <= limit)


def test_vectors_are_cut_to_what_one_call_takes() -> None:
    model = Model()
    result = run(model, replace(REQUEST, ranges=((0, 1),) * 5), max_ranges=2)
    assert [len(call["ranges"]) for call in model.calls] == [2, 2, 1]  # type: ignore[arg-type]
    assert result.calls == 3


def test_options_reach_the_call() -> None:
    model = Model(whole=1)
    run(model, replace(REQUEST, flags=4, levels=3, pidfd=9, max_tables=8, max_hold_ns=7))
    assert model.calls == [
        {
            "flags": 4 | _uapi.WHOLE_MM,
            "levels": 3,
            "pidfd": 9,
            "ranges": (),
            "max_tables": 8,
            "max_hold_ns": 7,
        }
    ]


def test_counts_are_added_and_the_longest_hold_is_the_longest() -> None:
    result = run(Model(batch=2, whole=6, freeing=False), REQUEST)
    assert result.skipped == {"contended": 6}
    assert result.flushes == result.calls == 3
    assert result.longest_hold_ns == 103


def test_progress_is_told_after_each_call() -> None:
    seen: list[int] = []
    carry_out(
        Model(batch=2, whole=5),
        REQUEST,
        max_ranges=1,
        progress=lambda result: seen.append(result.freed.total),
    )
    assert seen == [2, 4, 5]


def test_holes_are_an_error_only_after_the_rest_is_done() -> None:
    request = replace(REQUEST, ranges=((0, 3), (0, 4)))
    with pytest.raises(Unmapped, match="not mapped") as caught:
        run(Model(holes=1, error=errno.ENOMEM), request, max_ranges=1)
    assert caught.value.errno == errno.ENOMEM
    result = caught.value.result
    assert result is not None
    assert (result.freed.pte, result.holes, result.complete) == (7, 2, True)


def test_a_hole_met_in_a_call_that_ended_early_still_counts() -> None:
    with pytest.raises(Unmapped):
        run(Model(holes=1, batch=2), replace(REQUEST, ranges=((0, 3),)))


def test_contention_of_everything_is_an_error() -> None:
    with pytest.raises(Contended) as caught:
        run(Model(whole=3, freeing=False, error=errno.EAGAIN), REQUEST)
    assert caught.value.errno == errno.EAGAIN
    assert caught.value.result is not None
    assert caught.value.result.empty.pte == 3


def test_contention_of_one_call_is_none_if_others_freed_tables() -> None:
    model = Model(batch=2, whole=4, error=errno.EAGAIN, freeing=False)

    def free_from_the_second_call_on() -> None:
        model.freeing, model.error = bool(model.calls), 0 if model.calls else errno.EAGAIN

    model.before = free_from_the_second_call_on
    result = run(model, REQUEST)
    assert (result.freed.pte, result.complete) == (2, True)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EPERM, NotPermitted),
        (errno.EACCES, NotPermitted),
        (errno.ESRCH, ProcessGone),
        (errno.EINVAL, CallFailed),
        (errno.E2BIG, CallFailed),
    ],
)
def test_errors_end_the_work_and_carry_what_was_done(number: int, kind: type[CallFailed]) -> None:
    with pytest.raises(kind, match=r"^pid 4711: [a-z]") as caught:
        run(Model(batch=2, whole=4, error=number), REQUEST)
    assert caught.value.errno == number
    assert isinstance(caught.value, OSError)
    assert caught.value.result is not None
    assert caught.value.result.freed.pte == 2


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EAGAIN])
def test_an_error_without_progress_is_not_repeated_for_ever(number: int) -> None:
    with pytest.raises(CallFailed) as caught:
        run(Model(batch=0, whole=4, error=number), REQUEST)
    assert caught.value.errno == number


def test_memory_running_out_is_not_mistaken_for_a_hole() -> None:
    with pytest.raises(CallFailed, match="cannot allocate memory") as caught:
        run(Model(batch=0, whole=4, error=errno.ENOMEM), REQUEST)
    assert not isinstance(caught.value, Unmapped)


def test_ctrl_c_ends_the_work_between_calls() -> None:
    model = Model(batch=1, whole=1000, before=lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(model, REQUEST)
    assert len(model.calls) <= 1


def test_a_handled_signal_does_not_end_the_work() -> None:
    caught: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: caught.append(number))
    try:
        model = Model(batch=1, whole=5, before=lambda: signal.raise_signal(signal.SIGALRM))
        assert run(model, REQUEST).freed.pte == 5
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(caught) == 5


def test_reasons_of_a_newer_module_are_kept_by_number() -> None:
    @dataclass
    class Newer(Model):
        def __call__(self, **arguments: object) -> _uapi.Counts:
            counts = super().__call__(**arguments)  # type: ignore[arg-type]
            return counts._replace(skipped=(*counts.skipped[:-1], 2))

    assert run(Newer(whole=1), REQUEST).skipped == {f"reason_{NR_SKIPS - 1}": 2}
