# SPDX-License-Identifier: MIT
"""Random arguments for the ioctl: valid calls, each with a few fields made strange."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _fuzz import flip_beside, make_calls, rearm, stop_flipping
from _raw import poke, store
from numpy.typing import NDArray

from cleanup import _uapi
from guest.abi import ALL_LEVELS, SIZE, SIZE_MIN
from guest.layout import (
    ANON,
    MADV_NOHUGEPAGE,
    PAGE,
    PUD_SPAN,
    SHARED_ANON,
    UNIT,
    child,
    madvise,
    map_at,
    memfd,
    unmap,
)
from proof.fuzz import model
from proof.fuzz.model import (
    ARGS,
    CALL,
    RANGE,
    Arena,
    Column,
    Verdict,
    World,
    answers,
    wrong_answers,
)

# These are far below addresses that the kernel chooses, so that a run can be repeated exactly.
STAGE = 1 << 42
POOL = STAGE + (1 << 32)
ARENA = Arena(base=1 << 44, plan="-edezndh-fsznen-")
FLIPPED_BATCH = 256
PAGES_OF_STAGE = 3 + 2 * FLIPPED_BATCH
DATA = 0x5A
READ_ONLY_OFFSET = 1 << 30
ROWS = 2048
PROPER_ROWS = 1536  # the valid ranges, which come first in a pool
BATCH = 2048
MAP_FIXED_NOREPLACE = 0x100000
# Since Linux 6.14 these numbers stand for the caller and its process, in place of a pidfd.
PIDFD_SELF = (-10000, -20000, -10002, -10003)
# The VFS itself answers some ioctls of these types, whatever the file.
VFS_MAGICS = (0x00, 0x12, 0x15, 0x54, 0x58, 0x66, 0x94)

STRANGE_32 = (*(1 << bit for bit in range(32)), 0, 3, 5, 6, 7, 1023, 1024, 1025, 0xFFFF_FFFF)
STRANGE_64 = (
    *(1 << bit for bit in range(0, 64, 3)),
    0,
    PAGE,
    (1 << 47) - PAGE,
    (1 << 56) - PAGE,
    1 << 63,
    0xFFFF_8880_0000_0000,
    (1 << 64) - PAGE,
    (1 << 64) - 1,
)
STRANGE_SIZES = (0, 1, 4, 8, 39, 40, 48, 56, 63, SIZE_MIN, 65, 72, SIZE - 8, SIZE - 4, SIZE + 1)
MORE_STRANGE_SIZES = (SIZE + 8, SIZE + 16, 512, 4088, PAGE, PAGE + 8, 1 << 31, 0xFFFF_FFF8)


@dataclass(frozen=True)
class Batch:
    """Calls, the bytes of their structs and the ranges that these point to."""

    calls: NDArray[Any]
    images: NDArray[np.uint8]
    pool: NDArray[Any]

    def one(self, index: int) -> Batch:
        """Return a batch with a single call of this batch."""
        return Batch(self.calls[index : index + 1], self.images[index : index + 1], self.pool)

    def changed(self) -> tuple[Batch, Batch]:
        """Return two copies of the batch: one has the structs' bytes flipped, one the ranges'.

        No copy has both. A call with flipped structs may read the ranges of another call: in its
        copy these must be as they were.
        """
        images, pool = self.images.copy(), self.pool.copy()
        at = self.calls["flip_at"].astype("i8")
        to = self.calls["flip_to"]
        struct = np.flatnonzero(self.calls["flips"] == model.FLIPS_STRUCT)
        images[struct, at[struct]] = to[struct]
        memory = np.flatnonzero(self.calls["flips"] == model.FLIPS_MEMORY)
        pool.view(np.uint8)[at[memory] - pool_addr(pool)] = to[memory]
        return Batch(self.calls, images, self.pool), Batch(self.calls, self.images, pool)


def pool_addr(pool: NDArray[Any]) -> int:
    """Return where the ranges are put, so that unmapped memory follows them."""
    return POOL - pool.nbytes


class Module:
    """The module under test, called by a process whose memory the model knows."""

    def __init__(self, stack: ExitStack) -> None:
        """Map everything, and start a child to be a target as well."""
        self._stack = stack
        length = PAGES_OF_STAGE * PAGE
        file = stack.enter_context(memfd(length))
        stage = STAGE - length
        self._map(stage, length, mmap.MAP_SHARED, file)
        self._map(stage + READ_ONLY_OFFSET, length, mmap.MAP_SHARED, file, prot=mmap.PROT_READ)
        self._pool = np.zeros(ROWS, RANGE)
        self._map(pool_addr(self._pool), self._pool.nbytes, SHARED_ANON)
        self._map_arena()
        # The child has tables with data only: its parent makes the empty ones after the fork.
        quiet = stack.enter_context(child(_hold_data))
        self._empties = np.array(ARENA.units("efh"), np.uint64)
        self._zeros = np.array(
            [
                addr + page * PAGE
                for addr in ARENA.units("z")
                for page in range(model.ZERO_PAGES_PER_TABLE)
            ],
            np.uint64,
        )
        rearm(self._empties, self._zeros)
        self._shared = np.frombuffer(mmap.mmap(-1, PAGE), np.uint64)
        self.world = self._describe(quiet.pid)

    def _map(self, addr: int, length: int, flags: int, fd: int = -1, **prot: int) -> None:
        map_at(addr, length, flags | MAP_FIXED_NOREPLACE, fd, **prot)
        self._stack.callback(unmap, addr, length)

    def _map_arena(self) -> None:
        file = self._stack.enter_context(memfd(len(ARENA.plan) * UNIT))
        self._stack.callback(unmap, ARENA.base, len(ARENA.plan) * UNIT)
        for addr in ARENA.units("ndszefh"):
            if addr in ARENA.units("sf"):
                map_at(addr, UNIT, mmap.MAP_SHARED, file, addr - ARENA.base)
            else:
                map_at(addr, UNIT, ANON)
            madvise(addr, UNIT, MADV_NOHUGEPAGE)
        for addr in ARENA.units("ds"):
            poke(addr, 1, 1, DATA)
        for addr in ARENA.units("h"):
            unmap(addr + UNIT // 2, UNIT // 2)

    def _describe(self, quiet: int) -> World:
        def opened(fd: int) -> int:
            self._stack.callback(os.close, fd)
            return fd

        modes = (os.O_RDWR, os.O_RDONLY, os.O_WRONLY)
        devices = tuple(opened(os.open(_uapi.DEVICE, mode | os.O_CLOEXEC)) for mode in modes)
        answer = _uapi.features(devices[0])
        features = np.zeros(1, model.FEATURES)
        features["size"] = features.nbytes
        for name, value in answer._asdict().items():
            features[name] = value
        gone = os.fork()
        if gone == 0:
            os._exit(0)
        gone_fd = opened(os.pidfd_open(gone))
        os.waitpid(gone, 0)
        kthreadd = opened(os.pidfd_open(2))
        five_levels = "la57" in Path("/proc/cpuinfo").read_text().split()
        return World(
            arena=ARENA,
            pool=self._pool,
            pool_addr=pool_addr(self._pool),
            user_end=(1 << (56 if five_levels else 47)) - PAGE,
            devices=devices,
            others=(opened(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)), *map(opened, os.pipe())),
            targets={
                "self": (-1, opened(os.pidfd_open(os.getpid()))),
                "child": (opened(os.pidfd_open(quiet)),),
                "gone": (gone_fd, kthreadd),
                "perhaps_self": PIDFD_SELF,
            },
            features=features.tobytes(),
        )

    def wrong(self, batch: Batch) -> Column:
        """Make the calls, and return which of them got a wrong answer."""
        return self.try_out(batch).wrong

    def try_out(self, batch: Batch) -> Tried:
        """Make the calls and compare their answers with the model's."""
        store(pool_addr(batch.pool), batch.pool.tobytes())
        numbers = np.zeros(len(batch.calls), np.int32)
        after = np.zeros_like(batch.images)
        first_spoilt = make_calls(
            batch.calls,
            batch.images,
            after,
            numbers,
            STAGE,
            READ_ONLY_OFFSET,
            self._empties,
            self._zeros,
            self._shared,
        )
        verdict, wrong = self._compare(batch, numbers, after)
        changed = np.zeros_like(wrong)
        if batch.calls["flips"].any():
            # An answer must suit all bytes before the change or all bytes after it, not a mixture.
            for told in batch.changed():
                changed |= wrong & ~self._compare(told, numbers, after)[1]
            wrong &= ~changed
        if first_spoilt >= 0:
            wrong[first_spoilt] = True
        return Tried(wrong, changed, first_spoilt, numbers, after, verdict)

    def _compare(
        self, batch: Batch, numbers: NDArray[np.int32], after: NDArray[np.uint8]
    ) -> tuple[Verdict, Column]:
        world = replace(self.world, pool=batch.pool)
        verdict = answers(batch.calls, batch.images, world)
        return verdict, wrong_answers(batch.calls, batch.images, numbers, after, verdict, world)

    @contextmanager
    def flipper(self) -> Iterator[None]:
        """Have another process change a byte while calls with `flips` are made.

        A thread would not do: each TLB flush of its memory would interrupt its CPU and wait for it.
        """

        def flip(pause: Callable[[], None]) -> None:
            pause()
            flip_beside(self._shared)
            pause()

        with child(flip) as other:
            other.resume()
            yield
            stop_flipping(self._shared)
            other.wait_ready()


@dataclass(frozen=True)
class Tried:
    """The answers to the calls of a batch, and the model's verdict on them."""

    wrong: Column
    changed: Column  # whether the answer is right only for the bytes after the flip
    first_spoilt: int  # the first call for which the module wrote beside the struct, or -1
    numbers: NDArray[np.int32]
    after: NDArray[np.uint8]
    verdict: Verdict


def _hold_data(pause: Callable[[], None]) -> None:
    """In the child, write data where the parent has some, so that the child has its own tables."""
    for addr in ARENA.units("ds"):
        poke(addr, 1, 1, DATA)
    pause()


class Generator:
    """Makes batches from a seed; the seed and an index always give the same batch."""

    def __init__(self, world: World, seed: int) -> None:
        """Prepare to make batches of calls for a world; each seed gives other batches."""
        self._world = world
        self._seed = seed

    def batch(self, index: int, size: int = BATCH, *, flips: bool = False) -> Batch:
        """Make calls with a few strange fields; with `flips`, valid calls and a byte to flip."""
        self._rng = np.random.default_rng([self._seed, index])
        pool = self._ranges()
        images = self._proper_structs(pool, size, rows_each=ROWS // size if flips else 0)
        args = images.view(ARGS).reshape(-1)
        calls = np.zeros(size, CALL)
        calls["request"] = np.where(self._rarely(size, 16), _uapi.IOC_FEATURES, _uapi.IOC_RECLAIM)
        calls["fd"] = self._pick(self._world.devices, size)
        calls["length"] = args["size"]
        calls["slack"] = self._pick((0, 0, 8, 256), size)
        if flips:
            self._add_flips(calls, images, pool)
        else:
            self._make_strange(calls, images, args)
        # If `size` is more than the struct's length, the module may write behind the struct.
        calls["slack"][(args["size"] > calls["length"]) | flips] = 0
        return Batch(calls, images, pool)

    def _pick(self, values: Sequence[int], size: int) -> Column:
        array = np.array(values, "u8" if max(values) >> 63 else "i8")
        return array[self._rng.integers(len(values), size=size)]

    def _rarely(self, size: int, one_in: int) -> Column:
        return np.asarray(self._rng.integers(one_in, size=size) == 0)

    def _bytes(self, size: int) -> NDArray[np.uint8]:
        return self._rng.integers(256, size=size, dtype=np.uint8)

    def _ranges(self) -> NDArray[Any]:
        """Make valid ranges in and around the arena, then ranges with strange numbers."""
        pool = np.zeros(ROWS, RANGE)
        end = ARENA.base + (len(ARENA.plan) + 4) * UNIT
        pages = self._rng.integers(ARENA.base // PAGE, end // PAGE, size=ROWS)
        start = np.where(self._rarely(ROWS, 2), pages // 512 * 512, pages) * PAGE
        length = self._rng.integers(1, 3 * UNIT, size=ROWS) >> self._pick((0, 0, 9, 20), ROWS)
        length = np.where(self._rarely(ROWS, 4), -(-length // UNIT) * UNIT, length)
        huge = self._rarely(ROWS, 64)
        pool["addr"], pool["len"] = start, np.where(huge, PUD_SPAN - (start - ARENA.base), length)
        strange = np.arange(ROWS) >= PROPER_ROWS
        for name in RANGE.names or ():
            changed = strange & self._rarely(ROWS, 2)
            pool[name][changed] = self._pick(STRANGE_64, ROWS)[changed]
            pool[name][changed & self._rarely(ROWS, 2)] += np.uint64(1)
        return pool

    def _proper_structs(self, pool: NDArray[Any], size: int, rows_each: int) -> NDArray[np.uint8]:
        """Make valid structs; with `rows_each`, each has up to that many ranges of its own."""
        args = np.zeros(size, ARGS)
        args["size"] = self._pick((*[SIZE] * 8, SIZE_MIN, 72, 200, SIZE + 8, 512, PAGE), size)
        args["flags"] = self._pick(
            (*[_uapi.SCAN_ONLY] * 5, 0, _uapi.ZERO_PAGES, _uapi.SCAN_ONLY | _uapi.ZERO_PAGES), size
        )
        args["levels"] = self._rng.integers(1, ALL_LEVELS + 1, size=size)
        targets = self._world.targets
        args["pidfd"] = self._pick((*[-1] * 6, *targets["self"], *targets["child"]), size)
        args["inode_fd"] = -1
        args["nr_ranges"] = self._rng.integers(0, 6, size=size)
        if rows_each:
            args["nr_ranges"] = np.minimum(args["nr_ranges"], rows_each)
            first = np.arange(size) * rows_each
        else:
            many = self._rarely(size, 64)
            args["nr_ranges"][many] = self._rng.integers(6, 1025, size=many.sum())
            room = np.where(self._rarely(size, 4), ROWS, PROPER_ROWS) - args["nr_ranges"]
            first = (self._rng.random(size) * room).astype("i8")
        args["ranges"] = pool_addr(pool) + first * RANGE.itemsize
        limited = self._rarely(size, 6)
        args["max_tables"][limited] = self._rng.integers(1, 20, size=limited.sum())
        args["max_hold_ns"] = self._pick((0, 0, 0, 1, 50_000, 10**9, (1 << 64) - 1), size)
        self._resume_some(args, pool, first)
        whole = self._rarely(size, 64)
        args["flags"][whole] |= _uapi.WHOLE_MM
        for name in ("nr_ranges", "ranges", "next_range", "next_level", "next_addr"):
            args[name][whole] = 0
        return args.view(np.uint8).reshape(size, SIZE)

    def _resume_some(self, args: Column, pool: NDArray[Any], first: Column) -> None:
        """Set the cursors of some calls to somewhere inside their ranges."""
        size = len(args)
        at = (self._rng.random(size) * args["nr_ranges"]).astype("i8")
        resumed = self._rarely(size, 5) & (args["nr_ranges"] > 0)
        args["next_range"] = np.where(resumed, at, 0)
        args["next_level"] = np.where(resumed, self._rng.integers(0, 3, size=size), 0)
        row = pool[np.minimum(first + at, ROWS - 1)]
        pages = (self._rng.random(size) * (row["len"] // PAGE + 1)).astype("u8")
        inside = resumed & self._rarely(size, 2)
        args["next_addr"] = np.where(inside, row["addr"] // PAGE * PAGE + pages * PAGE, 0)

    def _make_strange(self, calls: Column, images: NDArray[np.uint8], args: Column) -> None:
        """Make each field strange in some calls, and all fields in a few."""
        size = len(calls)

        def change(table: Column, name: str, values: Sequence[int], one_in: int = 20) -> None:
            changed = self._rarely(size, one_in)
            # C converts a number in the same way: modulo the field's width.
            table[name][changed] = self._pick(values, size)[changed].astype(table[name].dtype)

        targets = [fd for fds in self._world.targets.values() for fd in fds]
        pool = self._world.pool_addr
        near = [
            pool + offset for offset in (1, 8, 9, ROWS // 2 * 16 + 8, ROWS * 16 - 16, ROWS * 16)
        ]
        sizes = STRANGE_SIZES + MORE_STRANGE_SIZES
        change(args, "size", sizes)
        change(args, "flags", STRANGE_32)
        change(args, "levels", STRANGE_32)
        change(args, "pidfd", (*targets, *self._world.devices, 0, 1, 9999, -2, -100, -(1 << 31)))
        change(args, "inode_fd", (0, 1, -2, *targets, 1 << 30), 40)
        change(args, "nr_ranges", STRANGE_32, 40)
        change(args, "ranges", (*near, *STRANGE_64))
        change(args, "max_tables", STRANGE_64)
        change(args, "max_hold_ns", STRANGE_64)
        change(args, "next_range", STRANGE_32, 40)
        change(args, "next_level", STRANGE_32, 40)
        change(args, "next_addr", (*STRANGE_64, ARENA.base, ARENA.base + UNIT + PAGE), 40)
        change(calls, "length", [value for value in sizes if SIZE_MIN <= value <= PAGE + 8], 40)
        change(calls, "place", (model.READ_ONLY, model.UNMAPPED), 40)
        change(calls, "fd", (*self._world.others, -1, 9999), 60)
        calls["pointer"] = self._pick((0, PAGE, STAGE, POOL, 1 << 63, (1 << 64) - 8), size)
        calls["tail_at"] = self._rng.integers(SIZE, PAGE, size=size)
        change(calls, "tail_value", (1, 0x80, 0xFF), 4)
        self._change_requests(calls)
        noise = self._rarely(size, 50)
        images[noise] = self._bytes(noise.sum() * SIZE).reshape(-1, SIZE)
        dirty = np.flatnonzero(self._rarely(size, 16))
        images[dirty, self._rng.integers(0, SIZE, size=len(dirty))] ^= self._bytes(len(dirty))

    def _change_requests(self, calls: Column) -> None:
        size = len(calls)
        request = calls["request"]
        # An ioctl request encodes a type, a number and a size; the module ignores the size.
        resized = self._rarely(size, 10)
        request[resized] ^= self._rng.integers(1, 1 << 16, size=resized.sum()).astype("u8") << 16
        renumbered = self._rarely(size, 60)
        request[renumbered] ^= self._rng.integers(1, 256, size=renumbered.sum()).astype("u8")
        retyped = self._rarely(size, 60)
        magics = [magic for magic in range(256) if magic not in VFS_MAGICS]
        kept = request[retyped] & ~np.uint64(0xFF00)
        request[retyped] = kept | self._pick(magics, retyped.sum()).astype("u8") << 8

    def _add_flips(self, calls: Column, images: NDArray[np.uint8], pool: NDArray[Any]) -> None:
        size = len(calls)
        args = images.view(ARGS).reshape(-1)
        ranged = args["nr_ranges"] > 0
        in_memory = ranged & self._rarely(size, 2)
        calls["flips"] = np.where(in_memory, model.FLIPS_MEMORY, model.FLIPS_STRUCT)
        in_struct = self._rng.integers(0, SIZE_MIN, size=size)
        in_ranges = self._rng.random(size) * args["nr_ranges"] * RANGE.itemsize
        offset = args["ranges"].astype("i8") - pool_addr(pool) + in_ranges.astype("i8")
        calls["flip_at"] = np.where(in_memory, pool_addr(pool) + offset, in_struct)
        own = np.where(
            in_memory,
            pool.view(np.uint8)[np.where(in_memory, offset, 0)],
            images[np.arange(size), in_struct],
        )
        calls["flip_to"] = own ^ (np.uint8(1) << self._rng.integers(8, size=size, dtype=np.uint8))


def smallest(module: Module, batch: Batch) -> Batch:
    """Simplify a call that got a wrong answer: reset each field that isn't needed for it."""
    args = batch.images.view(ARGS)
    plain = {"size": SIZE, "levels": 1, "pidfd": -1, "inode_fd": -1}
    for name in reversed(ARGS.names or ()):
        before = args[name].copy()
        args[name] = plain.get(name, 0)
        if name == "size":
            batch.calls["length"], length = SIZE, batch.calls["length"].copy()
        if not module.wrong(batch).any():
            args[name] = before
            if name == "size":
                batch.calls["length"] = length
    return batch


def described(batch: Batch, tried: Tried, index: int) -> str:
    """Describe a call for people: its fields, its ranges, its answer and the model's."""
    args = batch.images.view(ARGS).reshape(-1)[index]
    after = tried.after.view(ARGS).reshape(-1)[index]
    allowed = [number for number in range(64) if int(tried.verdict.allowed[index]) >> number & 1]
    first = (int(args["ranges"]) - pool_addr(batch.pool)) // RANGE.itemsize
    ranges = batch.pool[max(first, 0) : max(first, 0) + min(int(args["nr_ranges"]), 8)]
    lines = [f"call: {dict(zip(CALL.names or (), batch.calls[index].tolist(), strict=True))}"]
    lines += [f"  {name} = {args[name]}" for name in ARGS.names or () if np.any(args[name])]
    lines += [f"  range {int(addr):#x} + {int(length):#x}" for addr, length in ranges]
    if index == tried.first_spoilt:
        lines += ["memory beside the struct was written"]
    lines += [f"errno {tried.numbers[index]}, allowed: {allowed}"]
    wanted = tried.verdict.image[index]
    lines += [
        f"  {name} = {after[name]}, the model says {wanted[name]}"
        for name in ARGS.names or ()
        if not np.array_equal(after[name], wanted[name])
    ]
    return "\n".join(lines)
