# SPDX-License-Identifier: MIT
"""Other processes and other users: targets under an identity, and the command run under one."""

import os
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from _raw import syscall

from cleanup import _uapi
from cleanup.commands import main

COMMAND = Path(sys.executable).parent / "pgtable-cleanup"
NOBODY = 65534
CAP_SYS_NICE, CAP_SYS_PTRACE = 23, 19
SYS_PRCTL, SYS_CAPSET = 157, 126
PR_SET_DUMPABLE, PR_SET_KEEPCAPS = 4, 8


def become_nobody(*capabilities: int) -> None:
    """Drop to nobody, keeping just these capabilities."""
    syscall(SYS_PRCTL, PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    mask = sum(1 << capability for capability in capabilities)
    header = bytearray(struct.pack("=Ii", 0x20080522, 0))
    data = bytearray(struct.pack("=6I", mask, mask, 0, 0, 0, 0))
    syscall(SYS_CAPSET, _uapi.address_of(header), _uapi.address_of(data))


def dumpable_nobody(*capabilities: int) -> None:
    """A change of uid makes a process undumpable, and so not to be ptraced."""
    become_nobody(*capabilities)
    syscall(SYS_PRCTL, PR_SET_DUMPABLE, 1)


def in_fork(work: Callable[[], int]) -> int:
    """What `work` returns in a forked process, at most 255."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(work())
        except BaseException:
            traceback.print_exc()
        os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run pgtable-cleanup."""
    words = [str(argument) for argument in arguments]
    return subprocess.run(
        [COMMAND, *words], capture_output=True, text=True, check=False, timeout=120
    )


def command_in_fork(
    prepare: Callable[[], object], *arguments: object
) -> subprocess.CompletedProcess[str]:
    """Run it in a fork after `prepare`, as a user who may not read the checkout, for instance."""
    words = [str(argument) for argument in arguments]
    streams = [os.memfd_create(name) for name in ("stdout", "stderr")]

    def work() -> int:
        prepare()
        with (
            open(streams[0], "w", closefd=False) as stdout,
            open(streams[1], "w", closefd=False) as stderr,
            redirect_stdout(stdout),
            redirect_stderr(stderr),
        ):
            try:
                main(words)
            except SystemExit as ended:
                return int(ended.code or 0)
        return 0

    code = in_fork(work)
    texts = []
    for stream in streams:
        texts.append(os.pread(stream, os.fstat(stream).st_size, 0).decode())
        os.close(stream)
    return subprocess.CompletedProcess(words, code, *texts)
