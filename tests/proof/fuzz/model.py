# SPDX-License-Identifier: MIT
"""A model of the documented ABI: the errnos that a call may get, its counts and its cursor.

It computes in columns, a batch of calls at a time, so that even a slow guest checks thousands a
second.  Where several errors apply, any of them is right: the ABI does not say which is returned.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cleanup import _uapi
from guest.abi import ALL_LEVELS, SIZE, SIZE_MIN
from guest.layout import GIB, PAGE, PUD_SPAN, UNIT

Column = NDArray[Any]

RANGE = np.dtype([("addr", "u8"), ("len", "u8")])
ARGS = np.dtype(
    [
        *[(name, "u4") for name in ("size", "flags", "levels")],
        *[(name, "i4") for name in ("pidfd", "inode_fd")],
        ("nr_ranges", "u4"),
        *[(name, "u8") for name in ("ranges", "max_tables", "max_hold_ns")],
        *[(name, "u4") for name in ("next_range", "next_level")],
        *[(name, "u8") for name in ("next_addr", "holes")],
        *[(name, "u8", (3,)) for name in ("tables", "empty", "freed")],
        ("zero_pages_dropped", "u8"),
        ("skipped", "u8", (24,)),
        *[(name, "u8") for name in ("flushes", "longest_hold_ns")],
    ]
)
FEATURES = np.dtype(
    [
        *[(name, "u4") for name in ("size", "abi_version", "features", "flags")],
        *[(name, "u4") for name in ("levels", "max_ranges", "batch", "reserved")],
        ("default_max_hold_ns", "u8"),
    ]
)
# One call: where its struct is, and what surrounds it.  _fuzz.pyx has the same layout in C.
CALL = np.dtype(
    [
        *[(name, "u8") for name in ("request", "pointer", "flip_at")],
        *[(name, "u4") for name in ("length", "slack", "tail_at")],
        ("fd", "i4"),
        *[(name, "u1") for name in ("tail_value", "place", "flips", "flip_to")],
    ]
)
STAGED, READ_ONLY, UNMAPPED = range(3)  # values of CALL's field `place`
NO_FLIP, FLIPS_STRUCT, FLIPS_MEMORY = range(3)  # values of CALL's field `flips`

FLAGS = _uapi.SCAN_ONLY | _uapi.WHOLE_MM | _uapi.ZERO_PAGES
LEVELS = tuple(_uapi.LEVELS.values())
MAPPED = next(index for index, name in _uapi.SKIP_REASONS.items() if name == "mapped")
INPUTS = ARGS.fields["next_range"][1] if ARGS.fields else 0  # bytes that a call only reads
ZERO_PAGES_PER_TABLE = 3

OK = 1
ENOMEM, EAGAIN, EFAULT, EINVAL, EBADF = (
    1 << number for number in (errno.ENOMEM, errno.EAGAIN, errno.EFAULT, errno.EINVAL, errno.EBADF)
)


@dataclass(frozen=True)
class Arena:
    """Memory with tables that the model knows: the plan has a letter for each unit of 2 MiB.

    A unit without a table is ``-`` unmapped or ``n`` mapped.  A table has ``d`` data, ``s`` data of
    a shared file, ``z`` zero pages, or is empty: ``e``, ``f`` of a shared file, ``h`` with its
    second half unmapped.  Nothing else is mapped in the 512 GiB from `base` on.
    """

    base: int
    plan: str

    def units(self, letters: str) -> list[int]:
        """Return the addresses of the units of these kinds."""
        return [self.base + i * UNIT for i, letter in enumerate(self.plan) if letter in letters]

    def mask(self, letters: str) -> int:
        """Return the units of these kinds as bits: bit N is the plan's letter N."""
        return sum(1 << (addr - self.base) // UNIT for addr in self.units(letters))

    @cached_property
    def gaps(self) -> tuple[Column, Column]:
        """Return where unmapped stretches begin, and where they end."""
        begins, ends = [0], []
        mapped_to = 0
        for addr in self.units("ndszefh"):
            if addr > mapped_to:
                begins += [mapped_to] if mapped_to else []
                ends.append(addr)
            mapped_to = addr + (UNIT // 2 if addr in self.units("h") else UNIT)
        return np.array([*begins, mapped_to]), np.array([*ends, 1 << 62])


@dataclass(frozen=True)
class World:
    """All that an answer depends on beside the call."""

    arena: Arena
    pool: NDArray[Any]  # of RANGE: what calls point to; unmapped memory follows it
    pool_addr: int
    user_end: int
    devices: tuple[int, ...]  # descriptors of the device
    others: tuple[int, ...]  # descriptors of other files; the rest are closed
    targets: Mapping[str, tuple[int, ...]]  # pidfds: "self", "child", "gone" and "perhaps_self"
    features: bytes


@dataclass(frozen=True)
class Walks:
    """What walks of ranges meet: units of the arena as bits, its PMD and PUD table, and holes."""

    units: Column
    pmd: Column
    pud: Column
    holes: Column

    @staticmethod
    def over(arena: Arena, start: Column, end: Column, begin: Column) -> Walks:
        """Return what a walk of each range meets between its `begin` and its `end`."""
        base = arena.base

        def reached(span: int, size: int) -> tuple[Column, Column]:
            """Return the bounds in the arena of walks over tables that map `span` bytes each."""
            first = np.clip(begin // span * span, base, base + size) - base
            last = np.clip(-(-end // span) * span, base, base + size) - base
            return first, np.where(start < end, np.maximum(first, last), first)

        first, last = (bound // UNIT for bound in reached(UNIT, len(arena.plan) * UNIT))
        pmd_first, pmd_last = reached(GIB, GIB)
        pud_first, pud_last = reached(PUD_SPAN, PUD_SPAN)
        begins, ends = arena.gaps
        holes = np.searchsorted(begins, end, "left") - np.searchsorted(ends, begin, "right")
        return Walks(
            units=(1 << last) - (1 << first),
            pmd=pmd_first < pmd_last,
            pud=pud_first < pud_last,
            holes=np.where(begin < end, holes, 0),
        )


class Ranges:
    """The structs of ranges in a pool of bytes, read as the module does: also misaligned ones."""

    def __init__(self, world: World, pointers: Column) -> None:
        """Read and judge the pool's ranges, once for each misalignment that a pointer has."""
        raw = world.pool.tobytes()
        offsets = (pointers - np.uint64(world.pool_addr)).astype("i8")
        inside = (offsets >= 0) & (offsets < len(raw))
        self._shifts = np.unique(offsets[inside] % RANGE.itemsize)
        parts = [
            np.frombuffer(raw, RANGE, (len(raw) - shift) // RANGE.itemsize, shift)
            for shift in self._shifts.tolist()
        ]
        self._world = world
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        rows = np.concatenate([*parts, np.zeros(1, RANGE)])
        limit = np.uint64(world.user_end)
        length = np.where(rows["len"] > limit, 0, -(-rows["len"].astype("i8") // PAGE) * PAGE)
        self.valid = (
            (rows["addr"] % PAGE == 0)
            & (rows["len"] <= limit)
            & (rows["addr"] <= limit - np.minimum(length.astype("u8"), limit))
        )
        self.start = np.where(self.valid, rows["addr"], 0).astype("i8")
        self.end = self.start + np.where(self.valid, length, 0)
        arena = world.arena
        known = (self.start >= arena.base) & (self.end <= arena.base + PUD_SPAN)
        self.walks = Walks.over(arena, self.start, self.end, self.start)
        self._sums = np.zeros((len(rows) + 1, len(SUMMED)), "i8")
        columns = {
            **counted(arena, self.walks),
            "invalid": ~self.valid,
            "unknown": ~known & (self.start < self.end),
        }
        np.cumsum(np.stack([columns[name] for name in SUMMED], 1), 0, out=self._sums[1:])

    def locate(self, pointer: Column) -> tuple[Column, Column]:
        """Return the index of the range at a pointer, and the number of ranges from it on."""
        offset = (pointer - np.uint64(self._world.pool_addr)).astype("i8")
        index = np.zeros(len(pointer), "i8")
        room = np.zeros(len(pointer), "i8")
        for part, shift in enumerate(self._shifts):
            row = offset // RANGE.itemsize
            size = self._starts[part + 1] - self._starts[part]
            here = (offset % RANGE.itemsize == shift) & (row >= 0) & (row < size)
            index = np.where(here, self._starts[part] + row, index)
            room = np.where(here, size - row, room)
        return index, room

    def sums(self, first: Column, last: Column) -> dict[str, Column]:
        """Return the sums of the SUMMED counts over the ranges `first` up to `last`."""
        total = self._sums[last] - self._sums[first]
        return {name: total[:, column] for column, name in enumerate(SUMMED)}

    def union(self, first: Column, last: Column) -> Column:
        """Return the units that the ranges `first` up to `last` reach together."""
        bounds = np.stack([first, np.maximum(last, first + 1)], 1).ravel()
        reached = np.bitwise_or.reduceat(self.walks.units, np.minimum(bounds, len(self.start) - 1))
        return np.where(first < last, reached[::2], 0)


SUMMED = ("data", "zero", "empty", "pmd", "pud", "holes", "invalid", "unknown")


def counted(arena: Arena, walks: Walks) -> dict[str, Column]:
    """Return how many tables of each kind walks meet, and how many holes."""
    return {
        "data": np.bitwise_count(walks.units & arena.mask("ds")),
        "zero": np.bitwise_count(walks.units & arena.mask("z")),
        "empty": np.bitwise_count(walks.units & arena.mask("efh")),
        "pmd": walks.pmd,
        "pud": walks.pud,
        "holes": walks.holes,
    }


@dataclass
class Verdict:
    """The answers that the ABI allows to each call of a batch."""

    allowed: Column  # bit N: errno N; bit 0: success
    image: Column  # of ARGS: the struct after a call that was carried out to its end
    exact: Column  # whether the image is known in full
    limited: Column  # whether max_tables may have ended the call early
    known_bytes: Column  # how many bytes of the struct the module writes
    features: Column  # whether the call asks for the features

    @property
    def sharp(self) -> Column:
        """Return for each call whether the ABI allows only one answer."""
        return np.asarray((self.allowed & (self.allowed - 1)) == 0)


def answers(calls: Column, images: NDArray[np.uint8], world: World) -> Verdict:
    """Return what the ABI allows for a batch; a row of `images` is a call's struct."""
    return _Judge(calls, images, world).verdict()


@dataclass
class _Judge:
    calls: Column
    images: NDArray[np.uint8]
    world: World
    args: Column = field(init=False)
    ranges: Ranges = field(init=False)

    def __post_init__(self) -> None:
        self.args = self.images.view(ARGS).reshape(-1)
        self.ranges = Ranges(self.world, self.args["ranges"])

    def verdict(self) -> Verdict:
        calls, args = self.calls, self.args
        magic, number = calls["request"] >> 8 & 0xFF, calls["request"] & 0xFF
        ours = magic == _uapi.IOC_RECLAIM >> 8 & 0xFF
        reclaims = ours & (number == _uapi.IOC_RECLAIM & 0xFF)
        features = ours & (number == _uapi.IOC_FEATURES & 0xFF)
        device = np.isin(calls["fd"], self.world.devices)
        struct = np.where(
            features,
            self._sized(FEATURES.itemsize, FEATURES.itemsize),
            self._sized(SIZE, SIZE_MIN),
        )
        struct = np.where(calls["place"] == UNMAPPED, EFAULT, struct)
        fields = np.where(reclaims, self._fields(), 0)
        done, image, exact, limited = self._carried_out()
        done = np.where(features, OK, done)
        done = np.where(calls["place"] == READ_ONLY, EFAULT, done)
        perhaps = reclaims & np.isin(args["pidfd"], self.world.targets["perhaps_self"])
        allowed = _first(struct, fields, done)
        allowed |= np.where(perhaps & (struct == 0), EBADF, 0)
        allowed = np.where(
            device & (reclaims | features),
            allowed,
            np.where(
                device | np.isin(calls["fd"], self.world.others),
                1 << errno.ENOTTY,
                EBADF,
            ),
        )
        known = np.where(features, FEATURES.itemsize, SIZE)
        return Verdict(
            allowed=allowed.astype("u8"),
            image=image,
            exact=exact,
            limited=limited,
            known_bytes=np.minimum(args["size"], known),
            features=features,
        )

    def _sized(self, known: int, least: int) -> Column:
        """Return the errors of structs whose `size` does not fit them or the ABI."""
        calls, size = self.calls, self.args["size"].astype("i8")
        length = calls["length"].astype("i8")
        beyond = self.images[:, known:] != 0
        dirty = np.where(beyond.any(1), known + beyond.argmax(1), length) if beyond.size else length
        tail = (calls["tail_value"] != 0) & (calls["tail_at"] >= SIZE)
        dirty = np.minimum(dirty, np.where(tail, calls["tail_at"], length))
        return _either(
            (EFAULT, size > length),
            (1 << errno.E2BIG, (size > PAGE) | ((dirty < size) & (dirty < length))),
            (EINVAL, (size < least) | (size % 8 != 0)),
        )

    def _fields(self) -> Column:
        """Return the errors that the fields of a reclaim's struct may get."""
        args, ranges, targets = self.args, self.ranges, self.world.targets
        whole = args["flags"] & _uapi.WHOLE_MM != 0
        count = args["nr_ranges"].astype("i8")
        walked = np.where(whole, 1, count)
        first, room = ranges.locate(args["ranges"])
        readable = count <= room
        at = np.minimum(first + args["next_range"], len(ranges.start) - 1)
        in_a_range = readable & (args["next_range"] < count)
        next_addr = args["next_addr"]
        outside = (next_addr != 0) & (
            (next_addr < ranges.start[at].astype("u8")) | (next_addr > ranges.end[at].astype("u8"))
        )
        sums = ranges.sums(first, np.where(readable, first + count, first))
        pidfd = args["pidfd"]
        known = np.isin(pidfd, [fd for fds in targets.values() for fd in fds])
        wrong = (
            (args["flags"] & ~np.uint32(FLAGS) != 0)
            | (args["levels"] & ~np.uint32(ALL_LEVELS) != 0)
            | (args["levels"] == 0)
            | (args["inode_fd"] != -1)
            | (whole & ((count != 0) | (args["ranges"] != 0)))
            | (count > _uapi.MAX_RANGES)
            | (args["next_range"] > walked)
            | (args["next_level"] >= len(LEVELS))
            | ((args["next_range"] == walked) & ((args["next_level"] != 0) | (next_addr != 0)))
            | (next_addr % PAGE != 0)
            | (~whole & in_a_range & outside)
            | (~whole & (sums["invalid"] > 0))
        )
        return _either(
            (EINVAL, wrong),
            (EFAULT, ~whole & ~readable),
            (EBADF, ~known),
            (1 << errno.ESRCH, np.isin(pidfd, targets["gone"])),
        )

    def _carried_out(self) -> tuple[Column, Column, Column, Column]:
        """Return valid calls' answers, and of Verdict `image`, `exact` and `limited`."""
        args, arena, ranges = self.args, self.world.arena, self.ranges
        whole = args["flags"] & _uapi.WHOLE_MM != 0
        scans = args["flags"] & _uapi.SCAN_ONLY != 0
        drops = args["flags"] & _uapi.ZERO_PAGES != 0
        has_empties = ~np.isin(args["pidfd"], self.world.targets["child"])
        count = args["nr_ranges"].astype("i8")
        first, room = ranges.locate(args["ranges"])
        count = np.where(count <= room, count, 0)
        last = first + count
        at = np.minimum(first + args["next_range"], last)
        rest = np.minimum(at + 1, last)
        here = self._walk_from_cursor(at, at < last)
        sums = ranges.sums(rest, last)
        seen = {name: sums[name] + count for name, count in counted(arena, here).items()}
        union = here.units | ranges.union(rest, last)

        pte = (args["levels"] & LEVELS[0] != 0).astype("i8")
        zero = np.where(drops, 0, seen["zero"]) * has_empties
        kept = (seen["data"] + zero) * pte
        once = np.bitwise_count(union & arena.mask("efh")) * pte * has_empties
        zeros_once = np.bitwise_count(union & arena.mask("z")) * drops * pte * has_empties
        twice = (seen["empty"] + np.where(drops, seen["zero"], 0)) * pte * has_empties
        freed = np.where(scans, 0, once + zeros_once)
        empty = np.where(scans, twice, freed)

        image = args.copy()
        for name in ARGS.names[ARGS.names.index("holes") :] if ARGS.names else ():
            image[name] = 0
        image["next_range"] = np.where(whole, 1, args["nr_ranges"])
        image["next_level"] = image["next_addr"] = 0
        image["holes"] = seen["holes"]
        image["tables"][:, 0] = kept + empty
        image["tables"][:, 1] = seen["pmd"] * (args["levels"] & LEVELS[1] != 0)
        image["tables"][:, 2] = seen["pud"] * (args["levels"] & LEVELS[2] != 0)
        image["empty"][:, 0] = empty
        image["freed"][:, 0] = freed
        image["zero_pages_dropped"] = np.where(scans, 0, zeros_once) * ZERO_PAGES_PER_TABLE
        image["skipped"][:, MAPPED] = kept

        unknown = ranges.sums(at, last)["unknown"] > 0
        unknown |= whole
        done = np.where(scans, image["tables"].sum(1), freed)
        limited = (args["max_tables"] != 0) & (done.astype("u8") >= args["max_tables"])
        returned = np.where(image["holes"] != 0, ENOMEM, OK)
        returned = np.where(limited & ~unknown, returned | OK, returned)
        returned = np.where(unknown, OK | ENOMEM | EAGAIN, returned)
        returned = np.where(whole, OK | EAGAIN, returned)
        return returned, image, ~unknown & ~limited, limited & ~unknown

    def _walk_from_cursor(self, at: Column, there: Column) -> Walks:
        """Return what is left to walk of the ranges in which the cursors are."""
        args = self.args
        level = args["next_level"]
        start = np.where(there, self.ranges.start[at], 0)
        end = np.where(there, self.ranges.end[at], 0)
        begin = np.where(there & (args["next_addr"] != 0), args["next_addr"].astype("i8"), start)
        whole = Walks.over(self.world.arena, start, end, start)
        part = Walks.over(self.world.arena, start, end, begin)
        return Walks(
            units=np.where(level == 0, part.units, 0),
            pmd=np.where(level == 1, part.pmd, whole.pmd & (level == 0)),
            pud=np.where(level == 2, part.pud, whole.pud),
            holes=np.where(level == 0, part.holes, 0),
        )


def _either(*errors: tuple[int, Column]) -> Column:
    """Return for each call the set of all errors that apply to it."""
    told = [np.where(applies, error, 0) for error, applies in errors]
    return np.asarray(np.bitwise_or.reduce(told))


def _first(*stages: Column) -> Column:
    """Return for each call the answer of the first stage of checks that gives one."""
    *before, last = stages
    result = last
    for stage in reversed(before):
        result = np.where(stage != 0, stage, result)
    return result


def wrong_answers(
    calls: Column,
    images: NDArray[np.uint8],
    numbers: NDArray[np.int32],
    after: NDArray[np.uint8],
    verdict: Verdict,
    world: World,
) -> Column:
    """Return which calls got an errno, a count or a byte that they should not have."""
    told = np.uint64(1) << numbers.astype("u8")
    right = verdict.allowed & told != 0
    written = np.isin(numbers, (0, errno.ENOMEM, errno.EAGAIN))
    expected = images.copy()
    expected[verdict.features & written, : FEATURES.itemsize] = np.frombuffer(
        world.features, np.uint8
    )
    reclaims = written & ~verdict.features
    asked, got = (table.view(ARGS).reshape(-1) for table in (images, after))
    wanted = verdict.image.copy()
    freed = got["freed"].sum(1)
    # No model knows the longest hold, nor the number of flushes; that is checked against bounds.
    wanted["flushes"], wanted["longest_hold_ns"] = got["flushes"], got["longest_hold_ns"]
    whole_counts = verdict.known_bytes == SIZE
    flushes_right = ((got["flushes"] > 0) == (freed > 0)) & (got["flushes"] <= freed)
    counts_wrong = whole_counts & ~flushes_right
    loose = reclaims & ~verdict.exact
    counts_wrong |= loose & ~_bounded(asked, got, verdict, whole_counts)
    wanted_bytes = wanted.view(np.uint8).reshape(len(calls), SIZE)
    loose_bytes = np.concatenate([images[:, :INPUTS], after[:, INPUTS:]], 1)
    wanted_bytes = np.where(verdict.exact[:, None], wanted_bytes, loose_bytes)
    in_struct = np.arange(SIZE) < verdict.known_bytes[:, None]
    expected = np.where(reclaims[:, None] & in_struct, wanted_bytes, expected)
    differs = expected != after
    flipped = np.flatnonzero(calls["flips"] == FLIPS_STRUCT)
    differs[flipped, calls["flip_at"][flipped].astype("i8")] = False
    return np.asarray(~right | differs.any(1) | (reclaims & counts_wrong))


def _bounded(asked: Column, got: Column, verdict: Verdict, whole_counts: Column) -> Column:
    """Return whether the answers that the model knows only in part keep within its bounds."""
    full = verdict.image
    scans = asked["flags"] & _uapi.SCAN_ONLY != 0
    done = np.where(scans, got["tables"].sum(1), got["freed"].sum(1))
    within = (got["freed"] <= got["empty"]).all(1) & (got["empty"] <= got["tables"]).all(1)
    partly = (
        (done == asked["max_tables"])
        & (got["tables"] <= full["tables"]).all(1)
        & (got["empty"] <= full["empty"]).all(1)
        & (got["holes"] <= full["holes"])
        & (got["next_range"] <= full["next_range"])
        & (got["next_level"] < len(LEVELS))
        & (got["next_addr"] % PAGE == 0)
    )
    return np.asarray(~whole_counts | (within & (~verdict.limited | partly)))
