# SPDX-License-Identifier: MIT
"""Identities of processes: user, capabilities, user namespace, and whether it may be dumped.

As a program it forks a process for each identity in its argument, prints their pids, and ends them
at the end of its input. Run in a user namespace, it makes processes whose memory belongs to it.
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
DUMPABLE_BY_ROOT = 2  # no process can ask for this value: fs.suid_dumpable gives it


@dataclass(frozen=True)
class Namespace:
    """A user namespace, in which every user and group has the same id as outside."""

    name: str
    owner: int = 0
    parent: Namespace | None = None


INITIAL = Namespace("initial")


@dataclass(frozen=True)
class Identity:
    """The credentials by which the kernel decides what a process may do, and who may act on it."""

    uid: int
    capabilities: frozenset[int] = frozenset()
    namespace: Namespace = INITIAL
    fsuid: int | None = None
    fsgid: int | None = None
    dumpable: int = 1
    memory_namespace: Namespace = INITIAL
    """The namespace that owns its memory: the one in which it, or its parent, last exec'ed."""

    def assume(self, enter: int | None = None) -> None:
        """As root, enter the namespace of descriptor `enter`, if any, and take on this identity."""
        if enter is not None:
            syscall(SYS_SETNS, enter, CLONE_NEWUSER)
        become(self.uid, *self.capabilities, fsuid=self.fsuid, fsgid=self.fsgid)
        if self.dumpable != DUMPABLE_BY_ROOT:
            syscall(SYS_PRCTL, PR_SET_DUMPABLE, self.dumpable)
        assert syscall(SYS_PRCTL, PR_GET_DUMPABLE) == self.dumpable


def become(
    uid: int, *capabilities: int, fsuid: int | None = None, fsgid: int | None = None
) -> None:
    """Drop to a user and the group of the same number, and keep just these capabilities."""
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
    """Keep just these capabilities, both effective and permitted."""
    mask = sum(1 << capability for capability in set(capabilities))
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = bytearray(struct.pack("=Ii", 0x20080522, 0))
    data = bytearray(struct.pack("=6I", low, low, 0, high, high, 0))
    syscall(SYS_CAPSET, _uapi.address_of(header), _uapi.address_of(data))


def become_nobody(*capabilities: int) -> None:
    """Drop to the user nobody, and keep just these capabilities."""
    become(NOBODY, *capabilities)


def dumpable_nobody(*capabilities: int) -> None:
    """Drop to the user nobody, but stay dumpable: a change of uid alone would forbid ptrace."""
    Identity(NOBODY, frozenset(capabilities)).assume()


@contextmanager
def user_namespace(owner: int) -> Iterator[int]:
    """Make a child of the initial user namespace, and yield a descriptor of it."""

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
"""Where `empty_tables` makes tables, in every process: far below what mmap() would choose."""


def empty_tables() -> None:
    """Make an empty table for each unit of EMPTIED; a process forked later has its own copies."""
    map_at(EMPTIED.addr, EMPTIED.length, ANON)
    madvise(EMPTIED.addr, EMPTIED.length, MADV_NOHUGEPAGE)
    EMPTIED.touch()
    EMPTIED.release()


def standing(identity: Identity, enter: int | None = None) -> Child:
    """Fork a process that takes an identity on and waits until it is told to end."""

    def work(pause: Callable[[], None]) -> None:
        identity.assume(enter)
        pause()

    return Child(work)


def as_argument(identities: Iterable[Identity]) -> str:
    """Return identities as the argument of this program; all get the namespace that it runs in."""
    return json.dumps([[each.uid, list(each.capabilities), each.dumpable] for each in identities])


def main(argument: str) -> None:
    """Fork the processes that the argument lists, and wait for the end of the input."""
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
