# SPDX-License-Identifier: MIT
"""Stressors that have the kernel collapse, reclaim, migrate, merge and age pages."""

import errno
import random
import struct
import time
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen

from _raw import peek, poke, syscall

from cleanup import _uapi
from guest.layout import (
    MADV_COLLAPSE,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_PAGEOUT,
    PAGE,
    UNIT,
    madvise,
)
from proof.storms.contents import PAGES_A_UNIT
from proof.storms.stressors.base import Anonymous, Unavailable, tried

MADV_MERGEABLE = 12
SYS_MIGRATE_PAGES, SYS_MOVE_PAGES = 256, 279
MPOL_MF_MOVE = 2
CONTROL = Path("/sys/kernel/debug/lru_gen")


class Collapses(Anonymous):
    """MADV_COLLAPSE and khugepaged make huge pages, which are broken up again."""

    def __init__(self, stack: ExitStack, chance: random.Random) -> None:
        super().__init__(stack, chance)
        madvise(self.made.addr, self.made.length, MADV_HUGEPAGE)

    def step(self) -> None:
        self.contents.churn()
        tried(MADV_COLLAPSE, self.made.unit(self.contents.any_unit()), UNIT)
        self.contents.check_written()


class Pageouts(Anonymous):
    """Pages go to swap and back, and reclaim drops those that MADV_FREE gave up."""

    def step(self) -> None:
        self.contents.churn()
        tried(MADV_PAGEOUT, self.made.unit(self.contents.any_unit()), UNIT)
        self.contents.check_written()
        number = self.contents.any_unit()
        unit = self.made.unit(number)
        madvise(unit, UNIT, MADV_FREE)
        tried(MADV_PAGEOUT, unit, UNIT)
        for page, value in self.contents.values.items():
            if page // PAGES_A_UNIT == number:
                found = peek(self.contents.address(page), 1, PAGE)[0]
                assert found in (value, 0), f"page {page}: {found}, neither {value} nor freed"
        self.contents.release_unit(number)


class Migrations(Anonymous):
    """Pages move between two NUMA nodes: those with known contents, and all of another process.

    To move all pages of this process would take a minute or more under the mmap lock on 6.1: the
    stressors are forks of one process, and the kernel looks for each page in all of them.
    """

    def __init__(self, stack: ExitStack, chance: random.Random) -> None:
        super().__init__(stack, chance)
        if not Path("/sys/devices/system/node/node1").exists():
            raise Unavailable("one NUMA node: lab run --numa 2")
        self._other = stack.enter_context(Popen(["cat"], stdin=PIPE, stdout=PIPE))

    def step(self) -> None:
        self.contents.churn()
        self.contents.write(self.contents.any_page())
        pages = list(self.contents.values)
        node = self.chance.randrange(2)
        arrays = [
            bytearray(struct.pack(f"={len(pages)}Q", *map(self.contents.address, pages))),
            bytearray(struct.pack(f"={len(pages)}i", *[node] * len(pages))),
            bytearray(4 * len(pages)),
        ]
        syscall(SYS_MOVE_PAGES, 0, len(pages), *map(_uapi.address_of, arrays), MPOL_MF_MOVE)
        self.contents.check_written()
        self._migrate_other(node)

    def _migrate_other(self, node: int) -> None:
        assert self._other.stdin is not None
        assert self._other.stdout is not None
        masks = [bytearray(struct.pack("=Q", 1 << each)) for each in (1 - node, node)]
        text = self.chance.randbytes(PAGE)
        self._other.stdin.write(text)
        self._other.stdin.flush()
        syscall(SYS_MIGRATE_PAGES, self._other.pid, 64, *map(_uapi.address_of, masks))
        assert self._other.stdout.read(PAGE) == text, "cat did not say what it was told"


class Merges(Anonymous):
    """KSM merges equal pages into one, and replaces pages full of zeros by the zero page."""

    def __init__(self, stack: ExitStack, chance: random.Random) -> None:
        super().__init__(stack, chance)
        madvise(self.made.addr, self.made.length, MADV_MERGEABLE)

    def step(self) -> None:
        self.contents.churn()
        zero = self.contents.any_page()
        poke(self.contents.address(zero), 1, PAGE, 0)
        self.contents.forget(zero, 1)
        time.sleep(0.01)
        self.contents.check_written()
        self.contents.check(zero)


class Ages(Anonymous):
    """MGLRU walks the tables of all processes for what was accessed, and evicts the oldest."""

    def __init__(self, stack: ExitStack, chance: random.Random) -> None:
        super().__init__(stack, chance)
        if not CONTROL.exists():
            raise Unavailable("no MGLRU in this kernel")

    def step(self) -> None:
        self.contents.churn()
        while not sum(map(_done, self._orders())):
            pass
        self.contents.check_written()

    def _orders(self) -> list[str]:
        """Age every node of every memory cgroup, or reclaim a little from its oldest generation."""
        reclaim = self.chance.randrange(8) == 0
        generations: dict[tuple[str, str], list[str]] = {}
        memcg = node = ""
        for line in CONTROL.read_text().splitlines():
            match line.split():
                case ["memcg", memcg, *_]:
                    pass
                case ["node", node]:
                    pass
                case [generation, *_]:
                    generations.setdefault((memcg, node), []).append(generation)
        return [
            f"- {memcg} {node} {numbers[0]} 200 64"
            if reclaim
            else f"+ {memcg} {node} {numbers[-1]} 1 1"
            for (memcg, node), numbers in generations.items()
        ]


def _done(order: str) -> bool:
    """Give MGLRU an order; return False if it refused, because its generations had changed."""
    try:
        CONTROL.write_text(order)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ERANGE):
            raise
        return False
    return True
