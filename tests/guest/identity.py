# SPDX-License-Identifier: MIT
"""Who a process is: its user, capabilities and user namespace, and whether it may be dumped.

As a program it forks one process for each identity that its argument lists, says their pids, and
ends them at the end of its input: run in a user namespace, for memory that belongs to it.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from _raw import syscall

from cleanup import _uapi
from guest.layout import ANON, MADV_NOHUGEPAGE, Area, Child, child, madvise, map_at

NOBODY = 65534
CAP_SETGID, CAP_SETUID, CAP_NET_RAW = 6, 7, 13
CAP_SYS_PTRACE, CAP_SYS_NICE, CAP_PERFMON = 19, 23, 38
SYS_SETFSUID, SYS_SETFSGID, SYS_CAPSET, SYS_PRCTL = 122, 123, 126, 157
SYS_UNSHARE, SYS_SETNS, CLONE_NEWUSER = 272, 308, 0x10000000
PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_KEEPCAPS = 3, 4, 8
DUMPABLE_BY_ROOT = 2  # which no process can ask for: fs.suid_dumpable gives it


@dataclass(frozen=True)
class Namespace:
    """A user namespace; every id is in there what it is outside."""

    name: str
    owner: int = 0
    parent: Namespace | None = None


INITIAL = Namespace("initial")


@dataclass(frozen=True)
class Identity:
    """What the kernel judges a process by, be it caller or target."""

    uid: int
    capabilities: frozenset[int] = frozenset()
    namespace: Namespace = INITIAL
    fsuid: int | None = None
    fsgid: int | None = None
    dumpable: int = 1
    memory_namespace: Namespace = INITIAL
    """Owns what it executes: where it, or the parent it was forked by, was when it exec'ed."""

    def assume(self, enter: int | None = None) -> None:
        """From root in the initial namespace, or in the one that `enter` is a descriptor of."""
        if enter is not None:
            syscall(SYS_SETNS, enter, CLONE_NEWUSER)
        become(self.uid, *self.capabilities, fsuid=self.fsuid, fsgid=self.fsgid)
        if self.dumpable != DUMPABLE_BY_ROOT:
            syscall(SYS_PRCTL, PR_SET_DUMPABLE, self.dumpable)
        assert syscall(SYS_PRCTL, PR_GET_DUMPABLE) == self.dumpable


def become(
    uid: int, *capabilities: int, fsuid: int | None = None, fsgid: int | None = None
) -> None:
    """Drop to a user and the group of that number, keeping just these capabilities."""
    syscall(SYS_PRCTL, PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    set_capabilities(*capabilities, CAP_SETUID, CAP_SETGID)
    for number, wanted in ((SYS_SETFSGID, fsgid), (SYS_SETFSUID, fsuid)):
        if wanted is not None:
            syscall(number, wanted)
            assert syscall(number, wanted) == wanted, "it answers what was before, never an error"
    set_capabilities(*capabilities)


def set_capabilities(*capabilities: int) -> None:
    """Keep just these, effective and permitted."""
    mask = sum(1 << capability for capability in set(capabilities))
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = bytearray(struct.pack("=Ii", 0x20080522, 0))
    data = bytearray(struct.pack("=6I", low, low, 0, high, high, 0))
    syscall(SYS_CAPSET, _uapi.address_of(header), _uapi.address_of(data))


def become_nobody(*capabilities: int) -> None:
    """Drop to nobody, keeping just these capabilities."""
    become(NOBODY, *capabilities)


def dumpable_nobody(*capabilities: int) -> None:
    """A change of uid makes a process undumpable, and so not to be ptraced."""
    Identity(NOBODY, frozenset(capabilities)).assume()


@contextmanager
def user_namespace(owner: int) -> Iterator[int]:
    """A descriptor of a new child of the initial namespace."""

    def work(pause: Callable[[], None]) -> None:
        become(owner)
        syscall(SYS_UNSHARE, CLONE_NEWUSER)
        pause()

    with child(work) as first:
        for ids in ("uid_map", "gid_map"):
            Path(f"/proc/{first.pid}/{ids}").write_text(f"0 0 {2**32 - 1}")
        fd = os.open(f"/proc/{first.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


EMPTIED = Area(1 << 44, 160)
"""Where `empty_tables` are: the same place in every process, far below the kernel's choices."""


def empty_tables() -> None:
    """Make as many as EMPTIED has units; a process forked later has as many of its own."""
    map_at(EMPTIED.addr, EMPTIED.length, ANON)
    madvise(EMPTIED.addr, EMPTIED.length, MADV_NOHUGEPAGE)
    EMPTIED.touch()
    EMPTIED.release()


def standing(identity: Identity, enter: int | None = None) -> Child:
    """A process of that identity, that waits for its end."""

    def work(pause: Callable[[], None]) -> None:
        identity.assume(enter)
        pause()

    return Child(work)


def as_argument(identities: Iterable[Identity]) -> str:
    """What this program takes; their namespace is the one that it runs in."""
    return json.dumps([[each.uid, list(each.capabilities), each.dumpable] for each in identities])


def main(argument: str) -> None:
    """This program."""
    empty_tables()
    children = [
        standing(Identity(uid, frozenset(capabilities), dumpable=dumpable))
        for uid, capabilities, dumpable in json.loads(argument)
    ]
    print(*(each.pid for each in children), flush=True)  # noqa: T201
    sys.stdin.read()
    for each in children:
        each.finish()


if __name__ == "__main__":
    main(sys.argv[1])
