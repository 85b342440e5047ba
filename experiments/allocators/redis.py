# SPDX-License-Identifier: MIT
"""Control of a redis-server on a socket of its own."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from experiments import oracle
from experiments.allocators.methods import ProgramMethod
from experiments.part import ExperimentError

_START_SECONDS = 60
_ANSWER_SECONDS = 600


class Redis:
    """A running server; `running` starts one."""

    def __init__(self, socket: Path, pid: int) -> None:
        self._socket = socket
        self.pid = pid

    def ask(self, *command: str) -> str:
        """Return the answer of redis-cli to a command."""
        return self._run("redis-cli", *command).strip()

    def tables(self) -> oracle.Census:
        """Return the oracle's census of the server's page tables."""
        return oracle.observe_halted(self.pid)

    def benchmark(self, *options: str) -> str:
        """Return the output of redis-benchmark."""
        return self._run("redis-benchmark", *options)

    def run(self, script: str, *arguments: int) -> str:
        """Run a Lua script in the server, and return its answer."""
        return self.ask("eval", script, "0", *map(str, arguments))

    def figure(self, section: str, name: str) -> int:
        """Return a figure of a section of redis's INFO."""
        lines = self.ask("info", section).splitlines()
        found = dict(line.strip().split(":", 1) for line in lines if ":" in line)
        return int(found[name])

    def cpu_ns(self) -> int:
        """Return the CPU time of all threads of the server so far, in nanoseconds."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text(encoding="ascii").split()[0]) for task in tasks)

    def _run(self, program: str, *arguments: str) -> str:
        return subprocess.run(
            [program, "-s", str(self._socket), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=_ANSWER_SECONDS,
        ).stdout


def server() -> str | None:
    """Return the path of redis-server, or of redis-check-rdb, which is the same program."""
    return shutil.which("redis-server") or shutil.which("redis-check-rdb")


@contextmanager
def running(directory: Path, env: Mapping[str, str]) -> Iterator[Redis]:
    """Run a server that works in `directory`, and writes the file `stderr` there.

    The block's end shuts it down.  Raises ExperimentError where it does not start, or ends
    with another status than 0.
    """
    program = server()
    if program is None:
        raise ExperimentError("there is no redis-server here (Debian's package redis-tools)")
    socket = directory / "socket"
    with (directory / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [
                *["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", ""],
                *["--dir", str(directory)],
            ],
            executable=program,
            env=dict(env),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + _START_SECONDS
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > end:
                said = (directory / "stderr").read_text(encoding="utf-8", errors="replace")
                raise ExperimentError(f"redis-server does not start: {said}")
            time.sleep(0.05)
        found = Redis(socket, process.pid)
        yield found
        found.ask("shutdown", "nosave")
        if (status := process.wait(_START_SECONDS)) != 0:
            raise ExperimentError(f"redis-server ended with status {status}")
    finally:
        process.kill()
        process.wait()


@contextmanager
def run_by(method: ProgramMethod) -> Iterator[Redis]:
    """Run a server as `running` does, in a new directory, with a method of freeing tables."""
    with (
        tempfile.TemporaryDirectory(prefix="pgtable-cleanup.") as directory,
        running(Path(directory), method.environment([])) as server,
    ):
        yield server
