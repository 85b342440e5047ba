# SPDX-License-Identifier: MIT
"""A running QEMU, and the sockets between it and this process.

The guest's disk and initramfs are files without a name and QEMU dies with this process, so even a
killed process leaves neither a file nor a QEMU behind.
"""

import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cleanup.lab.cache import explained
from cleanup.lab.errors import LabError
from cleanup.lab.exchange import Output
from cleanup.lab.host import dies_with_us, run
from cleanup.lab.kernels import Kernel
from cleanup.lab.machine import QEMU, Channels, Emulator, Machine, qemu_arguments, size_in_bytes

# Sending blocks only if the socket's buffer is full and the guest doesn't listen.
SEND_SECONDS = 30.0


class Qemu:
    """A running QEMU."""

    def __init__(
        self,
        kernel: Kernel,
        machine: Machine,
        emulator: Emulator,
        *,
        initrd: bytes,
        results: Path | None,
        terminal: bool,
        outputs: Mapping[str, Output],
    ) -> None:
        """Start QEMU; ``outputs`` get what comes on the console and each of the guest's ports.

        With ``terminal``, this process's terminal is the guest's.
        """
        self._errors = bytearray()
        self._selector = selectors.DefaultSelector()
        self._machine = machine
        with ExitStack() as ours, ExitStack() as theirs:
            ours.callback(self._selector.close)
            errors = self._channel(ours, theirs, self._errors.extend)[1]
            pairs = {name: self._channel(ours, theirs, each) for name, each in outputs.items()}
            self._control = pairs["control"][0]
            self._control.settimeout(SEND_SECONDS)
            disk = size_in_bytes(machine.disk) if machine.disk else 0
            channels = Channels(
                initrd=_nameless(initrd, theirs),
                sockets={name: qemus.fileno() for name, (_, qemus) in pairs.items()},
                disk=_scratch_disk(disk, theirs) if disk else None,
                terminal=terminal,
            )
            inherited = (channels.initrd, channels.disk, *channels.sockets.values())
            arguments = qemu_arguments(machine, emulator, kernel, channels, results)
            self.started = time.monotonic()
            self._process = subprocess.Popen(
                dies_with_us(QEMU, *arguments),
                stdin=None if terminal else subprocess.DEVNULL,
                stdout=None if terminal else errors.fileno(),
                stderr=errors.fileno(),
                pass_fds=[each for each in inherited if each is not None],
                # In a session of its own QEMU gets no Ctrl-C, but can't use the terminal either.
                start_new_session=not terminal,
            )
            self._stack = ours.pop_all()

    def _channel(
        self, ours: ExitStack, theirs: ExitStack, output: Output
    ) -> tuple[socket.socket, socket.socket]:
        """Make a pair of sockets: one to read here, one that QEMU inherits."""
        here, qemus = socket.socketpair()
        ours.enter_context(here)
        theirs.enter_context(qemus)
        self._selector.register(here, selectors.EVENT_READ, output)
        return here, qemus

    @property
    def connected(self) -> bool:
        """Whether more output of QEMU may come."""
        return bool(self._selector.get_map())

    def receive(self, deadline: float) -> bool:
        """Wait for output until ``deadline``, and hand it on.  Return whether any came."""
        # select() does not take the number infinity as a timeout.
        seconds = min(max(0.0, deadline - time.monotonic()), 60.0)
        ready = self._selector.select(seconds)
        for key, _ in ready:
            end = key.fileobj
            if not isinstance(end, socket.socket):
                raise TypeError(end)
            try:
                data = end.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if data:
                key.data(data)
            else:
                self._selector.unregister(end)
        return bool(ready)

    def send(self, data: bytes) -> None:
        """Send to the guest's control port.  Raises OSError where the guest doesn't listen."""
        self._control.sendall(data)

    def rest(self) -> None:
        """Stop a guest that would spin while it waits for the next command.

        A guest whose clock counts instructions has no idle time.  Its clock doesn't go by the
        host's, so it does not notice the pause.  Any other guest would see a lockup.
        """
        if self._machine.icount:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a guest go on after `rest`."""
        if self._machine.icount:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End QEMU at once, and drop any output left."""
        self._process.kill()
        self._process.wait()
        self._stack.close()

    @property
    def crashed(self) -> bool:
        """Whether QEMU crashed by a bug of its own."""
        return self._process.poll() == -signal.SIGSEGV

    def failure(self) -> LabError | None:
        """Wait for QEMU's end, and return why it failed, or None."""
        code = self._process.wait()
        errors = self._errors.decode(errors="replace").strip()
        if code < 0:
            killer = signal.Signals(-code).name
            return LabError(f"qemu was killed by {killer} (by the host, short of memory?) {errors}")
        if code > 0:
            return LabError(f"qemu failed: {errors or f'exit code {code}'}")
        return None


def _nameless(content: bytes, stack: ExitStack) -> int:
    """Make a file in memory with this content, and return its descriptor."""
    file = os.fdopen(os.memfd_create("initramfs"), "wb")
    stack.enter_context(file)
    file.write(content)
    file.flush()
    return file.fileno()


def _scratch_disk(size: int, stack: ExitStack) -> int:
    """Make an empty ext4 in a sparse file without a name, and return its descriptor."""
    with explained(f"make a scratch disk in {tempfile.gettempdir()}"):
        file = tempfile.TemporaryFile()  # noqa: SIM115 -- the stack closes it
        stack.enter_context(file)
        file.truncate(size)
    path = f"/proc/self/fd/{file.fileno()}"
    lazily = "lazy_itable_init=1,lazy_journal_init=1"
    made = run("mkfs.ext4", "-q", "-F", "-E", lazily, path, pass_fds=[file.fileno()])
    if made.returncode != 0:
        raise LabError(f"cannot make the scratch disk: {made.stderr.strip()}")
    return file.fileno()


@contextmanager
def terminal_restored() -> Iterator[None]:
    """Give the terminal its settings back, whatever QEMU left behind."""
    if not sys.stdin.isatty():
        raise LabError("the shell needs a terminal: use lab run for commands")
    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
