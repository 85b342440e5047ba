# SPDX-License-Identifier: MIT
"""Tests that the fuzzers' models notice a module's wrong answers; the answers are made up."""

import errno
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cleanup import _uapi, probe
from guest import abi
from guest.layout import GIB, PAGE, UNIT
from proof.fuzz import layouts, model, tables
from proof.fuzz.arguments import ARENA, PIDFD_SELF, ROWS, Batch, Generator, pool_addr
from proof.fuzz.model import ARGS, RANGE, Verdict, World
from proof.fuzz.tables import ANON, FILE, Entries, Piece, Space

POOL = np.zeros(ROWS, RANGE)
WORLD = World(
    arena=ARENA,
    pool=POOL,
    pool_addr=pool_addr(POOL),
    user_end=(1 << 47) - PAGE,
    devices=(5, 6, 7),
    others=(8, 9, 10),
    targets={"self": (-1, 11), "child": (12,), "gone": (13, 14), "perhaps_self": PIDFD_SELF},
    features=bytes(range(40)),
)

Image = NDArray[np.uint8]


class Answers:
    """A batch of calls, and the answers of a correct module."""

    def __init__(self) -> None:
        """Have the model answer a batch; `known` marks calls that have a single right answer."""
        self.batch = Generator(WORLD, 1).batch(0)
        self.world = replace(WORLD, pool=self.batch.pool)
        self.verdict = model.answers(self.batch.calls, self.batch.images, self.world)
        self.known = self.verdict.sharp & (self.verdict.exact | ~self.succeed)
        self.numbers = np.log2(self.verdict.allowed.astype(float)).astype(np.int32)
        self.after = self._written()

    @property
    def succeed(self) -> NDArray[np.bool_]:
        """Tell for which calls the module writes its counts."""
        allowed = self.verdict.allowed
        return np.asarray((allowed == 1) | (allowed == 1 << errno.ENOMEM))

    def _written(self) -> Image:
        after = self.batch.images.copy()
        verdict = self.verdict
        image = verdict.image.copy()
        image["flushes"] = image["freed"].sum(1) > 0
        image_bytes = image.view(np.uint8).reshape(after.shape)
        in_struct = np.arange(after.shape[1]) < verdict.known_bytes[:, None]
        reclaims = self.succeed & ~verdict.features
        after = np.where(reclaims[:, None] & in_struct, image_bytes, after)
        answered = self.succeed & verdict.features
        after[answered, : len(WORLD.features)] = np.frombuffer(WORLD.features, np.uint8)
        return after

    def wrong(self, numbers: NDArray[np.int32], after: Image) -> NDArray[Any]:
        """Tell in which calls with one right answer the model rejects the answer that was given."""
        batch = self.batch
        found = model.wrong_answers(
            batch.calls, batch.images, numbers, after, self.verdict, self.world
        )
        return np.asarray(found[self.known])


@pytest.fixture(scope="module")
def right() -> Answers:
    return Answers()


def test_right_answers_pass(right: Answers) -> None:
    assert not right.wrong(right.numbers, right.after).any()
    assert right.known.sum() > len(right.known) * 3 // 4
    told = set(right.numbers[right.known].tolist())
    assert told >= {
        *(0, errno.ENOMEM, errno.EINVAL, errno.EFAULT, errno.E2BIG),
        *(errno.EBADF, errno.ESRCH, errno.ENOTTY),
    }


@pytest.mark.parametrize("number", [0, errno.EINVAL, errno.ENOMEM, errno.EPERM])
def test_another_errno_is_seen(right: Answers, number: int) -> None:
    numbers = np.where(right.numbers == number, errno.EIO, number).astype(np.int32)
    assert right.wrong(numbers, right.after).all()


@pytest.mark.parametrize("name", ["next_range", "next_addr", "holes", "tables", "freed", "skipped"])
def test_a_count_that_is_off_by_one_is_seen(right: Answers, name: str) -> None:
    after = right.after.copy()
    offset = ARGS.fields[name][1] if ARGS.fields else 0
    after[:, offset] += 1
    seen = right.succeed & ~right.verdict.features & (right.verdict.known_bytes > offset)
    assert right.wrong(right.numbers, after)[seen[right.known]].all()


@pytest.mark.parametrize("offset", [0, 20, abi.SIZE_MIN - 1, abi.SIZE - 16 - 1])
def test_a_byte_that_should_not_be_written_is_seen(right: Answers, offset: int) -> None:
    after = right.after.copy()
    after[:, offset] ^= 1
    assert right.wrong(right.numbers, after).all()


def test_a_change_meanwhile_is_told_apart() -> None:
    batch = Generator(WORLD, 1).batch(0, 256, flips=True)
    in_struct, in_ranges = batch.changed()
    assert (batch.images != in_struct.images).any()
    assert (batch.pool != in_ranges.pool).any()
    for changed in (in_struct, in_ranges):
        assert (_answers(batch).allowed != _answers(changed).allowed).any()


def _answers(batch: Batch) -> Verdict:
    return model.answers(batch.calls, batch.images, replace(WORLD, pool=batch.pool))


BASE = 1 << 45
NO_FRAME = 1 << 60


def everything(flags: int = 0, levels: int = abi.ALL_LEVELS) -> abi.Args:
    return abi.Args([(BASE, 2 * GIB)], flags=flags, levels=levels)


def test_tables_of_a_space() -> None:
    """The model's counts of tables with data, zero pages or no entries equal counts by hand."""
    space = Space()
    space.map(Piece(BASE, BASE + 4 * UNIT, ANON))
    space.map(Piece(BASE + GIB, BASE + GIB + PAGE, FILE))
    space.populate(BASE, BASE + 3 * UNIT)
    space.populate(BASE + GIB, BASE + GIB + PAGE)
    held = {BASE // UNIT: Entries(mapped=True), BASE // UNIT + 1: Entries(zero_pages=3)}

    def observe(unit: int) -> Entries:
        return held.get(unit, Entries())

    scan = space.call(everything(_uapi.SCAN_ONLY), observe)
    assert (scan.holes, scan.tables, scan.empty, scan.freed) == (2, [4, 2, 1], [2, 0, 0], [0, 0, 0])
    assert scan.skipped == {"mapped": 2}
    done = space.call(everything(_uapi.ZERO_PAGES), observe)
    assert (done.tables, done.freed, done.zero_pages_dropped) == ([4, 2, 1], [3, 1, 0], 3)
    assert space.pages == 3
    space.unmap(BASE, BASE + 2 * GIB)
    assert space.pages == 0


def test_a_moved_table_takes_what_its_part_needs() -> None:
    space = Space()
    space.map(Piece(BASE, BASE + UNIT, ANON))
    space.populate(BASE, BASE + PAGE)
    space.move(BASE, BASE + UNIT, BASE + GIB + UNIT // 2)
    assert sorted(space.tables[tables.PTE]) == [(BASE + GIB) // UNIT, (BASE + GIB) // UNIT + 1]
    assert (len(space.tables[tables.PMD]), len(space.tables[tables.PUD])) == (1, 1)


def test_a_move_goes_on_with_the_tables_that_it_has_made() -> None:
    """A table that mremap() makes early in a move is a source table later in that move."""
    space = Space()
    space.map(Piece(BASE + UNIT // 2, BASE + UNIT + UNIT // 4, ANON))
    space.populate(BASE + UNIT // 2, BASE + UNIT // 2 + PAGE)
    space.move(BASE + UNIT // 2, BASE + UNIT + UNIT // 4, BASE + UNIT + UNIT // 2)
    assert space.tables[tables.PTE] == {BASE // UNIT + 1, BASE // UNIT + 2}


def test_a_pmd_table_moves_as_such() -> None:
    """A PMD table moves as a whole if all that it maps moves; no PTE table is made for that."""
    space = Space()
    space.map(Piece(BASE, BASE + GIB + UNIT, ANON))
    space.populate(BASE, BASE + GIB + UNIT, tables.PMD)
    space.move(BASE, BASE + GIB + UNIT, BASE + 4 * GIB)
    assert space.tables[tables.PTE] == set()
    assert space.tables[tables.PMD] == {BASE // GIB + 4}


class FakeModule:
    """A module that answers what the model expects, changed by `falsify`, and frees nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, falsify: Callable[..., abi.Answer]) -> None:
        """Take the place of the device."""
        self._falsify = falsify
        self._expected = tables.Outcome()
        true_call = Space.call

        def listen(
            space: Space, args: abi.Args, observe: Callable[[int], Entries]
        ) -> tables.Outcome:
            self._expected = true_call(space, args, observe)
            return self._expected

        monkeypatch.setattr(Space, "call", listen)
        monkeypatch.setattr(abi, "call", lambda args, _fd: self.answer(args))

    def answer(self, args: abi.Args) -> abi.Answer:
        """Answer the reclaim ioctl."""
        told = self._expected
        answer = abi.Answer(
            next_range=len(args.ranges),
            next_level=0,
            next_addr=0,
            holes=told.holes,
            tables=told.tables[0],
            empty=told.empty[0],
            freed=told.freed[0],
            upper_tables=(told.tables[1], told.tables[2]),
            upper_empty=(told.empty[1], told.empty[2]),
            upper_freed=(told.freed[1], told.freed[2]),
            zero_pages_dropped=told.zero_pages_dropped,
            skipped=dict(told.skipped),
            flushes=int(sum(told.freed) > 0),
            longest_hold_ns=0,
        )
        answer = self._falsify(answer)
        if answer.holes:
            raise abi.Refused(errno.ENOMEM, answer)
        return answer


def layout_run(ops: Sequence[layouts.Op]) -> str:
    """Return what the model finds wrong after these operations, if a module frees nothing."""
    with ExitStack() as stack:
        machine = layouts.Machine(
            device=-1,
            pagemap=layouts.opened(stack, "/proc/self/pagemap"),
            memory=layouts.opened(stack, "/proc/self/mem"),
            file=layouts.opened_file(stack),
            zero_frame=NO_FRAME,
            pt_reclaim=probe.dontneed_frees_tables(),
        )
        return layouts.mismatch(machine, ops)[0]


BUILT = [
    (verb, seed)
    for seed, verb in enumerate(("map", "map", "write", "write", "protect", "scan", "scan"))
]


def test_a_layout_agrees_with_a_right_module(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeModule(monkeypatch, lambda answer: answer)
    assert layout_run(BUILT) == ""


@pytest.mark.parametrize("name", ["tables", "empty", "freed", "holes", "zero_pages_dropped"])
def test_a_wrong_count_over_a_layout_is_seen(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    FakeModule(monkeypatch, lambda answer: replace(answer, **{name: getattr(answer, name) + 1}))
    assert "the module says" in layout_run(BUILT) or name == "freed"
    assert layout_run(BUILT)


def test_a_wrong_reason_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeModule(monkeypatch, lambda answer: replace(answer, skipped={"contended": 1}))
    assert "contended" in layout_run(BUILT)


def test_tables_that_are_said_to_be_freed_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeModule(monkeypatch, lambda answer: answer)
    found = [layout_run(layouts.operations(str(seed))) for seed in range(12)]
    assert any("VmPTE fell by 0" in text for text in found)


def test_the_shrinker_leaves_what_fails() -> None:
    ops = layouts.operations("1")
    wanted = [ops[3], ops[-1]]
    assert layouts.smallest(ops, lambda fewer: all(op in fewer for op in wanted)) == wanted
