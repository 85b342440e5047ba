# SPDX-License-Identifier: MIT
"""Real servers, started with the library before their allocator."""

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cleanup.lab.packages import Apt
from cleanup.lab.progress import on_stderr
from preloaded import SHIM

# Debian's redis-tools has the server as well, under another name: no daemon comes with it.
REDIS_SERVER = "/usr/bin/redis-check-rdb"
START_SECONDS = 60


def environment(conf: str, *allocators: str, **more: str) -> dict[str, str]:
    """That of a program which has the library, and maybe another allocator than it was made for."""
    return {
        **os.environ,
        "LD_PRELOAD": " ".join([SHIM, *allocators]),
        "PGTABLE_CLEANUP_CONF": conf,
        **more,
    }


class Redis:
    """A server on a socket of its own."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def ask(self, *command: str) -> str:
        return subprocess.run(
            ["redis-cli", "-s", self._socket, *command],
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        ).stdout.strip()

    def benchmark(self, *options: str) -> str:
        return subprocess.run(
            ["redis-benchmark", "-s", self._socket, *options],
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        ).stdout

    def figure(self, section: str, name: str) -> int:
        """Of INFO."""
        lines = self.ask("info", section).splitlines()
        found = dict(line.strip().split(":", 1) for line in lines if ":" in line)
        return int(found[name])


@contextmanager
def redis(directory: Path, env: dict[str, str]) -> Iterator[Redis]:
    """The server, which must end by itself when it is told to; its stderr is in `stderr`."""
    socket = directory / "socket"
    with (directory / "stderr").open("wb") as stderr:
        server = subprocess.Popen(
            [
                *["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", ""],
                *["--dir", str(directory)],
            ],
            executable=REDIS_SERVER,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        end = time.monotonic() + START_SECONDS
        while not socket.exists():
            assert server.poll() is None, (directory / "stderr").read_text()
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.05)
        found = Redis(socket)
        yield found
        subprocess.run(["redis-cli", "-s", socket, "shutdown", "nosave"], check=True)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()


def unpacked(package: str, tree: Path) -> Path:
    """A Debian package's files, without installing it: some start a daemon."""
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    progress = on_stderr()
    with Apt.locked([suite], progress) as apt:
        wanted = [one for one in apt.resolve(suite, [package]) if one.name == package]
        apt.unpack(package, wanted, tree)
    return tree
