# SPDX-License-Identifier: MIT
"""Random address-space layouts, made in memory and in the model alike, and calls over them."""

from __future__ import annotations

import errno
import mmap
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from random import Random

import numpy as np
from _fuzz import page_sums
from _raw import peek, poke, syscall
from numpy.typing import NDArray

from cleanup import _uapi, probe
from experiments import oracle
from guest import abi
from guest.layout import (
    ANON as MAP_ANON,
)
from guest.layout import (
    GIB,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_REMOVE,
    PAGE,
    PROT_NONE,
    PROT_RW,
    PUD_SPAN,
    SHARED_ANON,
    SYS_MLOCK,
    SYS_MREMAP,
    UNIT,
    madvise,
    map_at,
    memfd,
    protect,
    unmap,
    userfaultfd,
    vmpte,
)
from proof.fuzz import tables
from proof.fuzz.tables import (
    ANON,
    FILE,
    HUGE,
    HUGETLB,
    KINDS,
    PRIVATE_FILE,
    SHARED,
    Entries,
    Outcome,
    Piece,
    Space,
)

# This is far below addresses that the kernel chooses: nothing else has tables there.
BASE = 1 << 45
SPANS = 3
END = BASE + SPANS * PUD_SPAN
SYS_MUNLOCK = 150
MREMAP_MAYMOVE_FIXED = 3
MAP_HUGETLB = 0x40000
PRESENT, SWAPPED, GUARD, MARKER = (1 << bit for bit in (63, 62, 58, 57))  # bits of a pagemap entry
FRAME = (1 << 55) - 1
MOST_PIECES = 14
TRIES = 3  # a layout fails if this many runs in a row end with Drift
FILE_PAGES = 8 * 512  # the most pages of the file in one mapping; other mappings may map them, too

Op = tuple[str, int]
"""A verb, and the seed of its random choices."""


class Mismatch(Exception):
    """The module, or the kernel, did not do what the model predicts."""


class Drift(Mismatch):
    """VmPTE differs from the model's count, maybe just because other memory got a table."""


@dataclass(frozen=True)
class Machine:
    """The guest's open files and the properties of its kernel, which all layouts use."""

    device: int
    pagemap: int
    memory: int
    file: int
    zero_frame: int
    pt_reclaim: bool

    @staticmethod
    def here(stack: ExitStack) -> Machine:
        """Open the files until the stack is closed, and find out the kernel's properties."""
        return Machine(
            device=opened(stack, _uapi.DEVICE),
            pagemap=opened(stack, "/proc/self/pagemap"),
            memory=opened(stack, "/proc/self/mem"),
            file=opened_file(stack),
            zero_frame=oracle.zero_frame(),
            pt_reclaim=probe.dontneed_frees_tables(),
        )


def opened(stack: ExitStack, path: str) -> int:
    """Open a file for reading until the stack is closed."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd


def opened_file(stack: ExitStack) -> int:
    """Make the file in memory that mappings of a layout share."""
    return stack.enter_context(memfd(2 * FILE_PAGES * PAGE))


class Layout:
    """One random layout of memory, from its first mapping until all is unmapped."""

    def __init__(self, machine: Machine) -> None:
        """Begin with nothing mapped."""
        self._machine = machine
        self._space = Space()
        self._seen: dict[int, tuple[Entries, NDArray[np.uint64]]] = {}
        self._stack = ExitStack()
        self._tracker: int | None = None
        self._baseline = 0
        self.totals: Counter[str] = Counter()  # calls, tables freed, and tables by skip reason
        self.trace: list[str] = []

    def run(self, ops: Sequence[Op]) -> None:
        """Do all operations; raise Mismatch where an answer is not the model's."""
        unmap(BASE, END - BASE)
        self._baseline = vmpte()
        try:
            for verb, seed in ops:
                VERBS[verb](self, Random(seed))
        except OSError as error:
            raise Mismatch(f"the kernel refuses what the model would do: {error}") from error
        finally:
            self._stack.close()
            unmap(BASE, END - BASE)

    # Operations that change the memory and the model alike.

    def _map(self, rng: Random) -> None:
        kind = rng.choice(KINDS) if rng.random() < 0.3 else rng.choice(KINDS[:4])
        start, length = _place(rng), _length(rng)
        if kind in (HUGE, HUGETLB):
            start, length = start // UNIT * UNIT, UNIT
        if kind in (FILE, PRIVATE_FILE):
            length = min(length, FILE_PAGES * PAGE)
        end = min(start + length, END)
        inside = self._space.within(start, end)
        whole = all(_is_whole(piece, start, end) for piece in inside)
        room = len(self._space.pieces) < MOST_PIECES
        if not room or not whole or (kind in (HUGE, HUGETLB) and inside):
            return
        self._note(f"map {kind}", start, end)
        self._forget()
        if kind in (FILE, PRIVATE_FILE):
            flags = mmap.MAP_SHARED if kind == FILE else mmap.MAP_PRIVATE
            map_at(start, end - start, flags, self._machine.file, rng.randrange(512) * PAGE)
        elif kind == HUGETLB:
            try:
                map_at(start, UNIT, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB)
            except OSError:
                return
        else:
            map_at(start, end - start, SHARED_ANON if kind == SHARED else MAP_ANON)
        if kind != HUGETLB:
            madvise(start, end - start, MADV_HUGEPAGE if kind == HUGE else MADV_NOHUGEPAGE)
        self._space.map(Piece(start, end, kind))

    def _unmap(self, rng: Random) -> None:
        piece = self._pick(rng)
        if piece is None:
            return
        start, end = self._part(rng, piece)
        if rng.random() < 0.3:
            end = min(end + _length(rng), END)
        if not all(_is_whole(piece, start, end) for piece in self._space.within(start, end)):
            return
        self._note("unmap", start, end)
        self._forget()
        unmap(start, end - start)
        self._space.unmap(start, end)

    def _write(self, rng: Random) -> None:
        self._touch(rng, PROT_RW)

    def _read(self, rng: Random) -> None:
        self._touch(rng, mmap.PROT_READ)

    def _touch(self, rng: Random, prot: int) -> None:
        piece = self._pick(
            rng,
            lambda piece: piece.prot & prot == prot and not piece.guarded and not piece.tracked,
        )
        if piece is None:
            return
        if not piece.mapped_by_pages:
            self._touch_huge(piece)
            return
        stride = rng.choice((PAGE, PAGE, 7 * PAGE, UNIT, UNIT + PAGE, 3 * UNIT, GIB // 2))
        first = piece.start + rng.randrange((piece.end - piece.start) // PAGE) * PAGE
        count = min(rng.choice((1, 2, 8, 40)), -(-(piece.end - first) // stride))
        writes = prot == PROT_RW
        self._note("write" if writes else "read", first, first + (count - 1) * stride + 1, stride)
        self._forget()
        if writes:
            poke(first, count, stride, rng.randrange(1, 256))
        else:
            peek(first, count, stride)
        for index in range(count):
            self._space.populate(first + index * stride, first + index * stride + 1)

    def _touch_huge(self, piece: Piece) -> None:
        self._note(f"write {piece.kind}", piece.start, piece.end)
        self._forget()
        poke(piece.start, 1, 1, 7)
        # If the fault mapped a small page instead, only the first is present.
        if piece.kind == HUGETLB or self._present(piece.end - PAGE):
            self._space.map_huge(piece.start, piece.kind)
        else:
            self._space.change(piece.start, piece.end, kind=ANON)
            self._space.populate(piece.start, piece.start + PAGE)

    def _present(self, address: int) -> bool:
        entry = os.pread(self._machine.pagemap, 8, address // PAGE * 8)
        return bool(int.from_bytes(entry, "little") & PRESENT)

    def _release(self, rng: Random) -> None:
        piece = self._pick(rng, lambda piece: piece.mapped_by_pages and not piece.locked)
        if piece is None:
            return
        start, end = self._part(rng, piece)
        self._note("release", start, end)
        self._forget()
        madvise(start, end - start, MADV_DONTNEED)
        if not self._machine.pt_reclaim:
            return
        # With PT_RECLAIM, MADV_DONTNEED of a whole unit frees its table as well.
        for unit in list(self._space.tables[tables.PTE]):
            covered = start <= unit * UNIT and (unit + 1) * UNIT <= end
            if covered and self._entries(unit) == Entries():
                self._space.tables[tables.PTE].remove(unit)

    def _free(self, rng: Random) -> None:
        self._advise(rng, "free", MADV_FREE, lambda piece: piece.kind == ANON)

    def _remove(self, rng: Random) -> None:
        self._advise(
            rng,
            "remove",
            MADV_REMOVE,
            lambda piece: piece.kind in (SHARED, FILE) and piece.prot == PROT_RW,
        )

    def _advise(self, rng: Random, verb: str, advice: int, suits: Callable[[Piece], bool]) -> None:
        piece = self._pick(rng, lambda piece: suits(piece) and not piece.locked)
        if piece is None:
            return
        start, end = self._part(rng, piece)
        self._note(verb, start, end)
        self._forget()
        madvise(start, end - start, advice)

    def _guard(self, rng: Random) -> None:
        piece = self._pick(
            rng, lambda piece: piece.kind == ANON and not piece.locked and not piece.tracked
        )
        if piece is None:
            return
        start, end = self._part(rng, piece, most=3 * UNIT)
        self._note("guard", start, end)
        self._forget()
        with suppress(OSError):  # before Linux 6.13 there are no guards
            madvise(start, end - start, MADV_GUARD_INSTALL)
            self._space.change(start, end, guarded=True)
            self._space.populate(start, end)

    def _unguard(self, rng: Random) -> None:
        piece = self._pick(rng, lambda piece: piece.guarded and not piece.locked)
        if piece is None:
            return
        self._note("unguard", piece.start, piece.end)
        self._forget()
        madvise(piece.start, piece.end - piece.start, MADV_GUARD_REMOVE)
        self._space.change(piece.start, piece.end, guarded=False)

    def _protect(self, rng: Random) -> None:
        piece = self._pick(rng, lambda piece: piece.mapped_by_pages)
        if piece is None:
            return
        start, end = self._part(rng, piece)
        prot = rng.choice((PROT_NONE, mmap.PROT_READ, PROT_RW, PROT_RW))
        self._note(f"protect {prot}", start, end)
        self._forget()
        protect(start, end - start, prot)
        self._space.change(start, end, prot=prot)

    def _lock(self, rng: Random) -> None:
        piece = self._pick(
            rng,
            lambda piece: (
                piece.kind == ANON
                and piece.prot != PROT_NONE
                and not piece.guarded
                and not piece.tracked
            ),
        )
        if piece is None:
            return
        start, end = self._part(rng, piece, most=64 * PAGE)
        self._note("lock", start, end)
        self._forget()
        syscall(SYS_MLOCK, start, end - start)
        self._space.change(start, end, locked=True)
        self._space.populate(start, end)

    def _unlock(self, rng: Random) -> None:
        piece = self._pick(rng, lambda piece: piece.locked)
        if piece is None:
            return
        self._note("unlock", piece.start, piece.end)
        syscall(SYS_MUNLOCK, piece.start, piece.end - piece.start)
        self._space.change(piece.start, piece.end, locked=False)

    def _move(self, rng: Random) -> None:
        piece = self._pick(
            rng,
            lambda piece: (
                piece.mapped_by_pages and not (piece.guarded or piece.locked or piece.tracked)
            ),
        )
        if piece is None or len(self._space.pieces) >= MOST_PIECES:
            return
        start, end = self._part(rng, piece)
        to = _place(rng)
        if rng.random() < 0.5:
            to += (start - to) % UNIT
        new_end = to + end - start
        apart = new_end <= start or end <= to
        whole = all(_is_whole(other, to, new_end) for other in self._space.within(to, new_end))
        # mremap() would mark zero pages as soft-dirty, and no observer can tell marked ones from
        # others: none is moved.
        if not apart or not whole or new_end > END or self._zero_pages_within(start, end):
            return
        self._note(f"move to {to:#x}", start, end)
        self._forget()
        length = end - start
        syscall(SYS_MREMAP, start, length, length, MREMAP_MAYMOVE_FIXED, to)
        self._space.move(start, end, to)

    def _track(self, rng: Random) -> None:
        piece = self._pick(rng, lambda piece: piece.kind in (ANON, SHARED) and not piece.guarded)
        if piece is None or self._tracker is not None:
            return
        start, end = self._part(rng, piece)
        self._note("track", start, end)
        self._tracker = self._stack.enter_context(userfaultfd(start, end - start, unregister=False))
        self._space.change(start, end, tracked=True)

    # Calls of the module, and checks of what they did.

    def _scan(self, rng: Random) -> None:
        self._call(rng, _uapi.SCAN_ONLY)

    def _reclaim(self, rng: Random) -> None:
        self._call(rng, 0)

    def _call(self, rng: Random, flags: int) -> None:
        args = abi.Args(
            self._ranges(rng),
            flags=flags | (_uapi.ZERO_PAGES if rng.random() < 0.4 else 0),
            levels=rng.choice((1, 7, 7, rng.randint(1, abi.ALL_LEVELS))),
            max_tables=rng.choice((0, 0, 0, 1, 2, rng.randrange(1, 40))),
            max_hold_ns=rng.choice((0, 0, 1)),
        )
        spans = ", ".join(f"{addr:#x}+{length:#x}" for addr, length in args.ranges)
        self.trace.append(
            f"call flags {args.flags} levels {args.levels} max_tables {args.max_tables}: {spans}"
        )
        survivors = self._survivors()
        sums = page_sums(self._machine.memory, survivors)
        before = vmpte()
        if before != self._baseline + self._space.pages * PAGE:
            raise Drift(
                f"VmPTE says {(before - self._baseline) // PAGE} tables, "
                f"the model {self._space.pages}: {list(map(len, self._space.tables))}"
            )
        expected = self._space.call(args, self._entries)
        got = self._answers(args)
        after = vmpte()
        if got != expected:
            raise Mismatch(f"the module says\n  {got}\nthe model\n  {expected}")
        if before - after != sum(got.freed) * PAGE:
            raise Drift(f"VmPTE fell by {before - after}, {got.freed} tables were freed")
        if page_sums(self._machine.memory, survivors) != sums:
            raise Mismatch("a page that was there has changed")

    def _answers(self, args: abi.Args) -> Outcome:
        """Call the module until it has walked all ranges, and return the sum of its answers."""
        total = Outcome()
        more = True
        while more:
            self.totals["calls"] += 1
            number = 0
            try:
                answer = abi.call(args, self._machine.device)
            except abi.Refused as refusal:
                number, answer = refusal.errno, refusal.answer
            more = args.go_on(answer)
            counts = {
                "tables": (answer.tables, *answer.upper_tables),
                "empty": (answer.empty, *answer.upper_empty),
                "freed": (answer.freed, *answer.upper_freed),
            }
            for name, added in counts.items():
                sums = getattr(total, name)
                sums[:] = [old + new for old, new in zip(sums, added, strict=True)]
            total.holes += answer.holes
            total.zero_pages_dropped += answer.zero_pages_dropped
            total.skipped += Counter(answer.skipped)
            if number != (errno.ENOMEM if answer.holes and not more else 0):
                raise Mismatch(f"errno {number} of {answer}")
            freed = sum(counts["freed"])
            self.totals += Counter(answer.skipped) + Counter(freed=freed)
            done = sum(counts["tables"]) if args.flags & _uapi.SCAN_ONLY else freed
            if args.max_tables and (done > args.max_tables or (more and done < args.max_tables)):
                raise Mismatch(f"max_tables {args.max_tables} ended a call with {answer}")
            if not bool(freed) <= answer.flushes <= freed:
                raise Mismatch(f"{answer.flushes} flushes for {freed} tables")
        return total

    def _ranges(self, rng: Random) -> list[tuple[int, int]]:
        """Choose the ranges of a call: everything, mapped pieces, or ranges at random addresses."""
        if rng.random() < 0.3:
            return [(BASE, END - BASE)]
        found = []
        for _ in range(rng.randint(1, 4)):
            piece = self._pick(rng)
            if piece is None or rng.random() < 0.2:
                start = _place(rng)
                found.append((start, min(rng.choice((0, 1, _length(rng))), END - start)))
                continue
            start, end = self._part(rng, piece)
            end = min(end + rng.choice((0, 0, PAGE, UNIT, _length(rng))), END)
            found.append((start, end - start))
        return found

    # Look-ups in the model and in the pagemap.

    def _pick(self, rng: Random, suits: Callable[[Piece], bool] = lambda _: True) -> Piece | None:
        pieces = [piece for piece in self._space.pieces if suits(piece)]
        return rng.choice(pieces) if pieces else None

    def _part(self, rng: Random, piece: Piece, most: int = END) -> tuple[int, int]:
        """Choose a part of a piece, or all of it; a huge page is never divided."""
        pages = (piece.end - piece.start) // PAGE
        if not piece.mapped_by_pages or (rng.random() < 0.3 and pages * PAGE <= most):
            return piece.start, piece.end
        start = piece.start + rng.randrange(pages) * PAGE
        if rng.random() < 0.4:
            start = max(piece.start, start // UNIT * UNIT)
        length = min(_length(rng), most)
        return start, min(start + length, piece.end)

    def _forget(self) -> None:
        """Forget what was seen of the entries, as they are about to change."""
        self._seen.clear()

    def _entries(self, unit: int) -> Entries:
        return self._look(unit)[0]

    def _look(self, unit: int) -> tuple[Entries, NDArray[np.uint64]]:
        """Return what the pagemap shows of a unit, and the addresses of its pages with data."""
        if unit not in self._seen:
            entries = np.frombuffer(os.pread(self._machine.pagemap, PAGE, unit * PAGE), np.uint64)
            present = entries & np.uint64(PRESENT) != 0
            zeros = present & (entries & np.uint64(FRAME) == self._machine.zero_frame)
            markers = ~present & (entries & np.uint64(SWAPPED | GUARD | MARKER) != 0)
            self._seen[unit] = (
                Entries(
                    mapped=bool((present & ~zeros).any()),
                    zero_pages=int(zeros.sum()),
                    markers=bool(markers.any()),
                ),
                np.flatnonzero(present & ~zeros).astype(np.uint64) * np.uint64(PAGE)
                + np.uint64(unit * UNIT),
            )
        return self._seen[unit]

    def _survivors(self) -> NDArray[np.uint64]:
        """Return the addresses of all pages that hold data and may be read."""
        huge = np.array(sorted(self._space.leaves), np.uint64) * np.uint64(UNIT)
        held = [self._look(unit)[1] for unit in sorted(self._space.tables[tables.PTE])]
        pages = np.concatenate([huge, *held])
        for piece in self._space.pieces:
            if piece.prot == PROT_NONE:
                pages = pages[(pages < piece.start) | (pages >= piece.end)]
        return pages

    def _zero_pages_within(self, start: int, end: int) -> bool:
        return any(
            self._entries(unit).zero_pages
            for unit in self._space.tables[tables.PTE]
            if unit * UNIT < end and start < (unit + 1) * UNIT
        )

    def _note(self, what: str, start: int, end: int, stride: int = 0) -> None:
        by = f" each {stride:#x}" if stride else ""
        self.trace.append(f"{what} {start:#x} to {end:#x}{by}")


VERBS: dict[str, Callable[[Layout, Random], None]] = {
    name.removeprefix("_"): getattr(Layout, name)
    for name in (
        *("_map", "_unmap", "_write", "_read", "_release", "_free", "_remove", "_guard"),
        *("_unguard", "_protect", "_lock", "_unlock", "_move", "_track", "_scan", "_reclaim"),
    )
}
WEIGHTS = {"write": 6, "release": 6, "map": 3, "read": 3, "scan": 8, "reclaim": 6, "move": 2}


def operations(seed: str) -> list[Op]:
    """Make a layout from a seed: some mappings, random operations on them, and a last reclaim."""
    rng = Random(seed)
    verbs = list(VERBS)
    weights = [WEIGHTS.get(verb, 1) for verb in verbs]
    chosen = ["map", "map", "write", *rng.choices(verbs, weights, k=rng.randint(8, 40)), "reclaim"]
    return [(verb, rng.getrandbits(32)) for verb in chosen]


def mismatch(machine: Machine, ops: Sequence[Op]) -> tuple[str, Counter[str]]:
    """Do operations; return what went wrong and the steps up to it (or ""), and totals of calls."""
    found: Mismatch
    totals: Counter[str] = Counter()
    for _ in range(TRIES):
        layout = Layout(machine)
        try:
            layout.run(ops)
        except Mismatch as error:
            found = error
            totals += layout.totals
            if not isinstance(error, Drift):
                break
        else:
            return "", totals + layout.totals
    return "\n".join([*layout.trace, str(found)]), totals


def smallest(ops: Sequence[Op], fails: Callable[[Sequence[Op]], object]) -> list[Op]:
    """Leave out stretches of operations, the longest first, where the others still fail."""
    left = list(ops)
    size = len(left)
    while size := size // 2:
        at = 0
        while at < len(left):
            fewer = left[:at] + left[at + size :]
            if fails(fewer):
                left = fewer
            else:
                at += size
    return left


def _is_whole(piece: Piece, start: int, end: int) -> bool:
    """Return whether the piece, if it is a huge page, stays whole when a stretch is unmapped."""
    return piece.mapped_by_pages or (start <= piece.start and piece.end <= end)


def _place(rng: Random) -> int:
    """Choose an address near where tables of some level begin."""
    pud = rng.choice((0, 0, 0, 1, 2))
    pmd = rng.choice((0, 0, 0, 1, 2, 511))
    unit = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 511))
    page = rng.choice((0, 0, 0, 1, 100, 256, 511))
    return BASE + pud * PUD_SPAN + pmd * GIB + unit * UNIT + page * PAGE


def _length(rng: Random) -> int:
    units = rng.choice((1, 1, 2, 4, 8, 512, 1024, 512 * 512)) * UNIT
    pages = rng.choice((1, 1, 3, 64, 300, 511)) * PAGE
    return rng.choice((pages, pages, units, units + pages))
