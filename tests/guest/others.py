# SPDX-License-Identifier: MIT
"""Functions that run work, or the command pgtable-cleanup, in another process."""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from cleanup.commands import (
    _targets,  # noqa: F401 -- forks need not import it
    main,
)

COMMAND = Path(sys.executable).parent / "pgtable-cleanup"


def in_fork(work: Callable[[], int]) -> int:
    """Run `work` in a forked process, and return what it returns, at most 255."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(work())
        except BaseException:
            traceback.print_exc()
        os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def command(
    *arguments: object, prepare: Callable[[], object] = lambda: None
) -> subprocess.CompletedProcess[str]:
    """Fork, call `prepare` and run pgtable-cleanup, even as a user who can't read its files.

    Under an emulator it takes seconds to start Python and to import the command.  In a fork Python
    runs already, and the command is imported.
    """
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
