# SPDX-License-Identifier: MIT
"""Receives what a guest sends about one command, by the protocol in `cleanup.lab.initramfs`."""

import secrets
import time
from collections.abc import Callable

Output = Callable[[bytes], object]


class Stream:
    """One of the guest's streams, up to the token that ends it."""

    def __init__(self, token: str, output: Output | None = None) -> None:
        """Make a stream that passes what it receives on to ``output``, if there is one."""
        self._token = token.encode()
        self._output = output
        self._held = b""
        self.content = bytearray()
        self.ended = False

    def text(self) -> str:
        """Return the text received so far."""
        return self.content.decode(errors="replace")

    def feed(self, data: bytes) -> None:
        """Take received data, and pass on the part that can't belong to the token."""
        if self.ended:
            return
        data = self._held + data
        before, found, _ = data.partition(self._token)
        self.ended = bool(found)
        # The end of the data may be the beginning of the token.
        hold = 0
        if not found:
            longest = min(len(before), len(self._token) - 1)
            ends = (n for n in range(longest, 0, -1) if self._token.startswith(before[-n:]))
            hold = next(ends, 0)
        self._held = before[len(before) - hold :]
        ready = before[: len(before) - hold]
        self.content += ready
        if self._output and ready:
            self._output(ready)


class Exchange:
    """What a guest sends about its boot or a command: messages, and streams that a token ends."""

    def __init__(self, on_stdout: Output | None = None, on_stderr: Output | None = None) -> None:
        # The token is random so that no command writes it by chance.
        self.token = secrets.token_hex(16)
        outputs = {"stdout": on_stdout, "stderr": on_stderr, "log": None}
        self.streams = {name: Stream(self.token, output) for name, output in outputs.items()}
        self.log = self.streams["log"]
        self.times: dict[str, float] = {}
        """When each message came, by the host's clock."""
        self.uptimes: dict[str, float] = {}
        """When each message was sent, by the guest's clock."""
        self.exit_code: int | None = None
        self.failure = ""

    def hear(self, message: str) -> None:
        """Take a message of the control port."""
        word, _, rest = message.partition(" ")
        self.times[word] = time.monotonic()
        if word == "failed":
            self.failure = rest
            return
        *code, uptime = rest.split()
        self.uptimes[word] = float(uptime)
        if code:
            self.exit_code = int(code[0])

    def booted(self) -> bool:
        """Say whether the log of the boot is here, and the guest is ready or has failed."""
        return self.log.ended and bool(self.failure or "ready" in self.times)

    def exited(self) -> bool:
        """Say whether the command has ended."""
        return self.exit_code is not None

    def settled(self) -> bool:
        """Say whether all output of the command, and the kernel's log of it, is here."""
        return all(stream.ended for stream in self.streams.values())
