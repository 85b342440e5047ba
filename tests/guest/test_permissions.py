# SPDX-License-Identifier: MIT
"""Tests of who may call for whom: every caller on every target under every ptrace scope.

The expected answer is that of `rule`, which follows the manual pages and not the module.

A caller is a process that lives through all scopes, calls for one target after another and tells
on a pipe what went wrong; a call frees one table at most, so that the next caller finds some too.

Three kinds of targets are left out:

- one outside the namespace that owns its memory is impossible: a process leaves a namespace only
  for a child of it;
- one of another user shows nothing new: what counts is whether its user is the caller's;
- a thread other than the first has no pidfd on 6.1 (6.9 brought PIDFD_THREAD).
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from _raw import share_memory, syscall

from cleanup import _uapi
from guest import abi
from guest.identity import (
    CAP_NET_RAW,
    CAP_PERFMON,
    CAP_SYS_NICE,
    CAP_SYS_PTRACE,
    DUMPABLE_BY_ROOT,
    EMPTIED,
    INITIAL,
    Identity,
    Namespace,
    as_argument,
    become,
    empty_tables,
    standing,
    user_namespace,
)
from guest.layout import PAGE, Child, area, child, unmap, vmpte
from guest.others import in_fork
from guest.settings import setting

ALICE, BOB = 1000, 1001
HERS, HIS = Namespace("Alice's", ALICE, INITIAL), Namespace("Bob's", BOB, INITIAL)

CALLERS = [
    *(
        Identity(uid, frozenset(capabilities), namespace)
        for namespace, uid, capabilities in itertools.product(
            (INITIAL, HERS),
            (0, ALICE, BOB),
            ((), (CAP_SYS_NICE,), (CAP_SYS_PTRACE,), (CAP_SYS_NICE, CAP_SYS_PTRACE)),
        )
    ),
    # Ptrace access goes by fsuid and fsgid: those of these callers differ from their uid or gid.
    *(
        Identity(uid, frozenset({CAP_SYS_NICE}), namespace, fsuid, fsgid)
        for namespace, (uid, fsuid, fsgid) in itertools.product(
            (INITIAL, HERS), ((BOB, ALICE, ALICE), (ALICE, BOB, BOB), (ALICE, ALICE, BOB))
        )
    ),
    *(
        Identity(uid, frozenset({CAP_SYS_NICE, CAP_PERFMON}), namespace)
        for namespace, uid in itertools.product((INITIAL, HERS), (ALICE, BOB))
    ),
]
# Some targets were forked in the initial namespace and entered another, others exec'ed in theirs.
TARGETS = [
    Identity(ALICE, capabilities, namespace, dumpable=dumpable, memory_namespace=memory)
    for (namespace, memory), dumpable, capabilities in itertools.product(
        ((INITIAL, INITIAL), (HERS, INITIAL), (HERS, HERS), (HIS, INITIAL), (HIS, HIS)),
        (0, 1, DUMPABLE_BY_ROOT),
        (frozenset[int](), frozenset({CAP_NET_RAW})),
    )
]
PLAIN = Identity(ALICE)

SCOPES = (0, 1, 2, 3)  # ascending, because scope 3 can't be lowered again
PTRACE_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
SUID_DUMPABLE = Path("/proc/sys/fs/suid_dumpable")

PIDFD_SELF_THREAD, PIDFD_SELF_PROCESS = -10000, -10001
PIDFD_THREAD = os.O_EXCL
KTHREADD = 2
SYS_EXIT, SYS_PTRACE = 60, 101
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_O_TRACEEXIT, PTRACE_EVENT_EXIT = 17, 0x4206, 0x40, 6


def may(caller: Identity, capability: int, over: Namespace | None) -> bool:
    """Return whether a caller has a capability in a namespace, by user_namespaces(7)."""
    if over is None:
        return False
    if over == caller.namespace:
        return capability in caller.capabilities
    owned = over.parent == caller.namespace and over.owner == caller.uid
    return owned or may(caller, capability, over.parent)


def may_read(caller: Identity, target: Identity, series: str) -> bool:
    """Return whether a caller has PTRACE_MODE_READ_FSCREDS access to a target, by ptrace(2).

    Yama has no part in it: a scope limits who may attach, not who may read.
    """
    # Of our kernels only 7.3 accepts CAP_PERFMON, too, in mm_access(): ptrace(2) doesn't tell.
    if series == "7.3" and may(caller, CAP_PERFMON, INITIAL):
        return True
    fsuid = caller.uid if caller.fsuid is None else caller.fsuid
    fsgid = caller.uid if caller.fsgid is None else caller.fsgid
    privileged = may(caller, CAP_SYS_PTRACE, target.namespace)
    same_user = fsuid == fsgid == target.uid
    dumpable = target.dumpable == 1 or may(caller, CAP_SYS_PTRACE, target.memory_namespace)
    no_less = caller.namespace == target.namespace and target.capabilities <= caller.capabilities
    return dumpable and (privileged or (same_user and no_less))


def rule(caller: Identity, target: Identity, series: str) -> int:
    """Return what a call for another process must answer: 0 or an errno."""
    if not may(caller, CAP_SYS_NICE, target.memory_namespace):
        return errno.EPERM
    return 0 if may_read(caller, target, series) else errno.EACCES


@dataclass(frozen=True)
class Target:
    """A target, and the pidfd by which a call names it."""

    pidfd: int
    judged: Identity | int
    """The identity that `rule` judges, or the answer that every caller gets."""
    name: str = ""
    pid: int | None = None
    """The process whose tables a call may free, unless it is the caller."""

    def expected(self, caller: Identity, series: str) -> int:
        """Return what a call for this target must answer: 0 or an errno."""
        return self.judged if isinstance(self.judged, int) else rule(caller, self.judged, series)


@dataclass(frozen=True)
class Caller:
    """A process that calls, and tells on a pipe which answers were wrong."""

    identity: Identity
    process: Child
    report: int

    def call_all(self) -> list[str]:
        """Have the process call for each target, and return what went wrong."""
        self.process.resume()
        self.process.wait_ready()
        return [f"{self.identity}: {cell}" for cell in json.loads(os.read(self.report, 1 << 16))]


NOTHING = abi.Answer(0, 0, 0, 0, 0, 0, 0, (0, 0), (0, 0), (0, 0), 0, {}, 0, 0)


def call(device: int, pidfd: int, flags: int) -> int:
    """Count or free a table; return 0, or an errno after checking that nothing was written."""
    args = abi.Args([EMPTIED.span], flags=flags, pidfd=pidfd, max_tables=1)
    try:
        answer = abi.call(args, device)
    except abi.Refused as refusal:
        assert refusal.answer == NOTHING
        return refusal.errno
    assert answer.empty > 0
    assert answer.freed == (flags != _uapi.SCAN_ONLY)
    return 0


def calling(
    identity: Identity, enter: int | None, targets: Sequence[Target], series: str, report: int
) -> Callable[[Callable[[], None]], None]:
    """Return the work of a caller: a round of calls whenever it is resumed."""

    def work(pause: Callable[[], None]) -> None:
        identity.assume(enter)
        device = open_device()
        everyone = [*targets, *own_targets(identity, series)]
        expected = [target.expected(identity, series) for target in everyone]
        while True:
            pause()
            wrong = []
            for target, answer in zip(everyone, expected, strict=True):
                before = vmpte(target.pid) if target.pid else 0
                answers = [call(device, target.pidfd, flags) for flags in (_uapi.SCAN_ONLY, 0)]
                freed = before - vmpte(target.pid) if target.pid else 0
                must_free = PAGE if target.pid and not answer else 0
                if (answers, freed) != ([answer, answer], must_free):
                    wrong.append(f"{target}: {answers}, not {answer}; {freed} bytes freed")
            os.write(report, json.dumps(wrong[:10]).encode())

    return work


def own_targets(identity: Identity, series: str) -> list[Target]:
    """Return as targets the caller, by each of its names, its child, and who shares its memory."""
    born = Child(lambda pause: pause())
    beside = share_memory()
    # Caller and child were forked: their memory belongs to the namespace that the tests began in.
    heir = replace(identity, fsuid=None, fsgid=None)
    by_number = 0 if series == "7.3" else errno.EBADF
    found = [
        Target(-1, 0, "itself"),
        Target(os.pidfd_open(os.getpid()), 0, "itself by pidfd"),
        Target(PIDFD_SELF_THREAD, by_number, "PIDFD_SELF_THREAD"),
        Target(PIDFD_SELF_PROCESS, by_number, "PIDFD_SELF_PROCESS"),
        Target(os.pidfd_open(beside), 0, "a process in its memory"),
        Target(os.pidfd_open(born.pid), heir, "its child", born.pid),
    ]
    if series != "6.1":
        thread = threading.Thread(target=threading.Event().wait, daemon=True)
        thread.start()
        assert thread.native_id
        pidfd = os.pidfd_open(thread.native_id, PIDFD_THREAD)
        # Only the pidfd of a first thread stands for a process, as in process_madvise().
        found.append(Target(pidfd, errno.ESRCH, "its other thread"))
    return found


@contextmanager
def killed(process: Child) -> Iterator[Child]:
    """Kill a child at the end, instead of letting it end by itself."""
    try:
        yield process
    finally:
        process.kill()
        process.reap()


@contextmanager
def born_in(namespace: int, identities: Sequence[Identity]) -> Iterator[list[int]]:
    """Make processes whose memory belongs to a namespace, and yield their pids."""
    enter = ["nsenter", f"--user=/proc/self/fd/{namespace}", "--preserve-credentials"]
    with subprocess.Popen(
        [*enter, sys.executable, "-P", "-m", "guest.identity", as_argument(identities)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        pass_fds=[namespace],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout
        yield [int(pid) for pid in parent.stdout.readline().split()]
    assert parent.returncode == 0


@contextmanager
def exiting() -> Iterator[int]:
    """Yield the pid of a process that is inside exit() and still has its memory."""
    process = standing(PLAIN)
    syscall(SYS_PTRACE, PTRACE_SEIZE, process.pid, 0, PTRACE_O_TRACEEXIT)
    process.resume()
    assert os.waitpid(process.pid, 0)[1] >> 8 == signal.SIGTRAP | PTRACE_EVENT_EXIT << 8
    try:
        yield process.pid
    finally:
        # The process can't be killed any more: it ends by itself once it is detached.
        syscall(SYS_PTRACE, PTRACE_DETACH, process.pid, 0, 0)
        assert process.reap() == 0


def leaderless() -> Child:
    """Fork a process whose first thread has exited, so that its pidfd leads to no memory."""

    def work(pause: Callable[[], None]) -> None:
        leader = Path("/proc/self/stat")

        def go_on() -> None:
            while leader.read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.01)
            pause()
            os._exit(0)

        threading.Thread(target=go_on).start()
        syscall(SYS_EXIT, 0)

    return Child(work)


def zombie() -> int:
    """Return the pid of a process that has exited and was not yet waited for."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def without_memory(stack: ExitStack) -> list[Target]:
    """Return targets that are no process or have no memory: all callers get the same answer."""
    headless = stack.enter_context(killed(leaderless()))
    unreaped, reaped = zombie(), zombie()
    stack.callback(os.waitpid, unreaped, 0)
    found = [
        Target(os.pidfd_open(headless.pid), errno.ESRCH, "a process without its first thread"),
        Target(os.pidfd_open(unreaped), errno.ESRCH, "a zombie"),
        Target(os.pidfd_open(reaped), errno.ESRCH, "a process that is gone"),
        Target(os.pidfd_open(KTHREADD), errno.ESRCH, "a kernel thread"),
        Target(os.open(os.devnull, os.O_RDONLY), errno.EBADF, "a file"),
        Target(os.open("/proc/1", os.O_RDONLY), errno.EBADF, "a directory of /proc"),
    ]
    os.waitpid(reaped, 0)
    for target in found:
        stack.callback(os.close, target.pidfd)
    return [
        *found,
        Target(1 << 20, errno.EBADF, "a descriptor that isn't open"),
        Target(-2, errno.EBADF, "a negative number"),
    ]


def with_memory(stack: ExitStack, enter: Mapping[Namespace, int | None]) -> list[Target]:
    """Start a process for each of TARGETS, and one more that has begun to exit."""
    targets = [(stack.enter_context(exiting()), PLAIN)]
    for namespace, descriptor in enter.items():
        here = [each for each in TARGETS if each.memory_namespace == namespace]
        if descriptor is None:
            pids = [
                stack.enter_context(killed(standing(each, enter[each.namespace]))).pid
                for each in here
            ]
        else:
            pids = stack.enter_context(born_in(descriptor, here))
        targets += zip(pids, here, strict=True)
    found = [Target(os.pidfd_open(pid), each, pid=pid) for pid, each in targets]
    for target in found:
        stack.callback(os.close, target.pidfd)
    return found


@pytest.fixture(scope="module")
def callers(series: str) -> Iterator[list[Caller]]:
    """Start a process for each of CALLERS, which can call for all the targets."""
    if int(PTRACE_SCOPE.read_text()) == SCOPES[-1]:
        pytest.skip("the last ptrace scope stays until the next boot: no other can be tried")
    assert len(CALLERS) * len(SCOPES) <= EMPTIED.units, "a target may run out of tables"
    empty_tables()
    with ExitStack() as stack:
        stack.callback(unmap, *EMPTIED.span)
        stack.enter_context(setting(SUID_DUMPABLE, str(DUMPABLE_BY_ROOT)))
        enter = {
            INITIAL: None,
            HERS: stack.enter_context(user_namespace(HERS.owner)),
            HIS: stack.enter_context(user_namespace(HIS.owner)),
        }
        targets = [*with_memory(stack, enter), *without_memory(stack)]
        report, report_w = os.pipe()
        stack.callback(os.close, report)
        stack.callback(os.close, report_w)
        made = []
        for each in CALLERS:
            work = calling(each, enter[each.namespace], targets, series, report_w)
            made.append(Caller(each, stack.enter_context(killed(Child(work))), report))
        yield made


def open_device() -> int:
    """Return a descriptor of the device."""
    return os.open(_uapi.DEVICE, os.O_RDWR | os.O_CLOEXEC)


def attach(pid: int) -> int:
    """As Alice, open the memory of a process, which needs PTRACE_MODE_ATTACH; return the errno."""
    become(ALICE)
    return errno_of(partial(os.open, f"/proc/{pid}/mem", os.O_RDONLY))


def errno_of(work: Callable[[], object]) -> int:
    """Do some work, and return 0 or the errno that it fails with."""
    try:
        work()
    except OSError as error:
        assert error.errno
        return error.errno
    return 0


def test_rule_knows_every_answer(series: str) -> None:
    """`rule` expects each answer of some call: a rule that always refused would prove nothing."""
    pairs = itertools.product(CALLERS, TARGETS)
    assert {rule(*pair, series) for pair in pairs} == {0, errno.EPERM, errno.EACCES}


@pytest.mark.parametrize("scope", SCOPES)
def test_every_caller_on_every_target(scope: int, callers: Sequence[Caller]) -> None:
    PTRACE_SCOPE.write_text(str(scope))
    with killed(standing(PLAIN)) as target:
        # The scope is in force: from 1 on it forbids attaching.
        assert in_fork(partial(attach, target.pid)) == (errno.EACCES if scope else 0)
    assert [cell for caller in callers for cell in caller.call_all()] == []


def test_a_refusal_tells_nothing_of_the_target() -> None:
    """A refused caller gets the same errno for mapped, unmapped and impossible addresses."""
    with area(1) as made, child(lambda pause: pause()) as target:
        spans = [made.span, (PAGE, PAGE), (1 << 63, PAGE)]
        pidfd = os.pidfd_open(target.pid)

        def caller(*capabilities: int) -> int:
            become(ALICE, *capabilities)
            refusals = [abi.refused(abi.Args([span], pidfd=pidfd)) for span in spans]
            assert all(each.answer == NOTHING for each in refusals)
            (number,) = {each.errno for each in refusals}
            return number

        assert in_fork(caller) == errno.EPERM
        assert in_fork(partial(caller, CAP_SYS_NICE)) == errno.EACCES
        os.close(pidfd)


def test_who_called_counts_and_not_who_opened() -> None:
    with killed(standing(PLAIN)) as target:
        pidfd = os.pidfd_open(target.pid)
        args = abi.Args(flags=_uapi.WHOLE_MM, pidfd=pidfd)

        def handed_down() -> int:
            device = open_device()
            become(ALICE)
            return abi.refused(args, device).errno

        def handed_up() -> int:
            os.seteuid(ALICE)
            device = open_device()
            os.seteuid(0)
            abi.call(args, device)
            return 0

        assert in_fork(handed_down) == errno.EPERM
        assert in_fork(handed_up) == 0
        os.close(pidfd)


def test_who_may_open() -> None:
    """Everybody may open the device, unless root has changed the mode of its node."""
    node = Path(_uapi.DEVICE)
    assert stat.S_IMODE(node.stat().st_mode) == 0o666

    def caller(uid: int) -> int:
        become(uid)
        return errno_of(open_device)

    node.chmod(0o600)
    try:
        assert in_fork(partial(caller, 0)) == 0
        assert in_fork(partial(caller, ALICE)) == errno.EACCES
    finally:
        node.chmod(0o666)
