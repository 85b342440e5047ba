# SPDX-License-Identifier: MIT
"""QEMU while it runs: its start, what the guest says, its end.

The guest's disk and initramfs are files without a name and QEMU dies with this process, so even a
killed run leaves neither file nor process.
"""

import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cleanup.lab import dmesg, machine
from cleanup.lab.cache import explained
from cleanup.lab.errors import KernelReportError, LabError
from cleanup.lab.guest import Guest, initramfs
from cleanup.lab.host import dies_with_us, program
from cleanup.lab.progress import Progress

# From QEMU's start to the first command, in seconds: 5 to 10 on an idle host, 30 with a debug
# kernel, and several times that beside other guests.
BOOT_SECONDS = 300.0
# From the command's end to QEMU's, in seconds.
SHUTDOWN_SECONDS = 60.0
# Of the console, in a message: at least, and at most from a report on.
TAIL_LINES = 40
MOST_LINES = 200

Output = Callable[[bytes], object]


class Stream:
    """One of the guest's streams, up to the token that ends it."""

    def __init__(self, token: str, output: Output | None = None) -> None:
        self._token = token.encode()
        self._output = output
        self._held = b""
        self.content = bytearray()
        self.ended = False

    def text(self) -> str:
        """What has come."""
        return self.content.decode(errors="replace")

    def feed(self, data: bytes) -> None:
        """Take what came, and pass it on as far as it can't be the token."""
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


STRAY_BREAKPOINT = re.compile(r"\bint3: 0000 \[#1\]")
# KASAN's report, and where the interrupt came that it was made in.
WILD_ACCESS = re.compile(r"\bKASAN: wild-memory-access\b.*\bidentify_cpu\+0x", re.DOTALL)


class Session:
    """QEMU while it runs, and what the guest says; leaving it ends QEMU."""

    def __init__(self, guest: Guest, on_stdout: Output | None, on_stderr: Output | None) -> None:
        self.guest = guest
        self.console = bytearray()
        self.qemu_errors = bytearray()
        self.stdout = Stream(guest.token, on_stdout)
        self.stderr = Stream(guest.token, on_stderr)
        self.log = Stream(guest.token)
        self.exit_code: int | None = None
        self.failure = ""
        # What to raise where time ran out, and whether that was while it booted.
        self.overdue: LabError | None = None
        self.hung_boot = False
        self.qemu_crashed = False
        # Of QEMU's start, the command's and its end; and the guest's uptime at the last two.
        self.times: list[float] = []
        self.uptimes: list[float] = []
        self._said = b""
        self._stack = ExitStack()
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()
        self._selector.close()

    def start(self, hardware: machine.Machine, disk_bytes: int, results: Path | None) -> None:
        """Start QEMU with a socket for each of the guest's streams."""
        interactive = self.guest.shell_size is not None
        with ExitStack() as ends:
            qemu_errors = self._channel(ends, self.qemu_errors.extend)[1]
            self._reply, control = self._channel(ends, self._on_control)
            channels = machine.Channels(
                initrd=_nameless(initramfs(self.guest), ends),
                console=self._channel(ends, self.console.extend)[1].fileno(),
                control=control.fileno(),
                stdout=self._channel(ends, self.stdout.feed)[1].fileno(),
                stderr=self._channel(ends, self.stderr.feed)[1].fileno(),
                log=self._channel(ends, self.log.feed)[1].fileno(),
                disk=_scratch_disk(disk_bytes, ends) if disk_bytes else None,
                terminal=interactive,
            )
            arguments = machine.qemu_arguments(hardware, self.guest.kernel, channels, results)
            self.times.append(time.monotonic())
            self._qemu = subprocess.Popen(
                dies_with_us(machine.QEMU, *arguments),
                stdin=None if interactive else subprocess.DEVNULL,
                stdout=None if interactive else qemu_errors.fileno(),
                stderr=qemu_errors.fileno(),
                pass_fds=channels.descriptors(),
                # Ctrl-C is this process's to answer; a terminal is for its foreground alone.
                start_new_session=not interactive,
            )
            self._stack.callback(self._end)

    def _end(self) -> None:
        self._qemu.kill()
        self._qemu.wait()

    def follow(self, timeout: float, progress: Progress) -> None:
        """Read what the guest says until QEMU is gone or that takes too long."""
        with ExitStack() as step:
            step.enter_context(progress.step(f"booting {self.guest.kernel.release}"))
            while self._selector.get_map():
                deadline, late, booting = self._deadline(timeout)
                for key, _ in self._selector.select(_within(deadline)):
                    self._receive(key)
                if self.uptimes:
                    step.close()
                if time.monotonic() >= deadline:
                    self.overdue = self._died(late)
                    self.hung_boot = booting and not isinstance(self.overdue, KernelReportError)
                    return
        self.qemu_crashed = self._qemu.wait() == -signal.SIGSEGV

    def _deadline(self, timeout: float) -> tuple[float, str, bool]:
        """When to give up, what to say then, and whether that is of a boot."""
        done = self.exit_code is not None or self.failure
        if done:
            return self.times[-1] + SHUTDOWN_SECONDS, "the guest did not power off", False
        end = self.times[0] + timeout
        ready = self.times[0] + BOOT_SECONDS
        if not self.uptimes and ready < end:
            return ready, f"the guest did not boot within {BOOT_SECONDS:g} s", True
        return end, f"the guest was not done within {timeout:g} s (see --timeout)", False

    def _receive(self, key: selectors.SelectorKey) -> None:
        end = key.fileobj
        if not isinstance(end, socket.socket):
            raise TypeError(end)
        try:
            data = end.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self._selector.unregister(end)
            return
        key.data(data)
        if self.stdout.ended and self.stderr.ended and self.log.ended:
            # All is here: the guest may power off.
            with suppress(OSError):
                self._reply.send(b"\n")

    def _on_control(self, data: bytes) -> None:
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            word, _, rest = line.decode(errors="replace").partition(" ")
            self.times.append(time.monotonic())
            if word == "failed":
                self.failure = rest
            elif word == "ready":
                self.uptimes.append(float(rest))
            elif word == "exit":
                code, uptime = rest.split()
                self.exit_code = int(code)
                self.uptimes.append(float(uptime))

    def _channel(
        self, ends: ExitStack, feed: Callable[[bytes], object]
    ) -> tuple[socket.socket, socket.socket]:
        """A pair of sockets: one to read here, one for QEMU, which inherits it."""
        ours, qemus = socket.socketpair()
        self._stack.enter_context(ours)
        ends.enter_context(qemus)
        self._selector.register(ours, selectors.EVENT_READ, feed)
        return ours, qemus

    def _tail(self) -> str:
        """The console from the first report of a bug on, or its last lines."""
        lines = self.console.decode(errors="replace").splitlines()
        first = next((n for n, line in enumerate(lines) if dmesg.reports(line)), len(lines))
        end = lines[min(first, max(0, len(lines) - TAIL_LINES)) :][-MOST_LINES:]
        return "; the console's end:\n" + "\n".join(end) if end else "; the console is empty"

    def unlucky_boot(self) -> bool:
        """Whether neither the guest nor the module is at fault for a boot that failed.

        Linux patches its code by way of a breakpoint.  QEMU's TCG with several threads may have
        a CPU run into one that is gone already (seen once in some 200 boots on 7.2), which the
        kernel takes for a stray one.  And identify_cpu() forgets for a moment that the CPU has
        5-level paging: KASAN takes what an interrupt touches then for wild (6.12 and 7.3; one
        boot in ten).  And a boot hangs without a word (seen once in some 300 on a busy host), or
        QEMU 7.2 itself crashes (seen once).
        Only before the module was loaded: from then on nothing is put down to bad luck.
        """
        console = self.console.decode(errors="replace")
        return (
            not self.uptimes
            and (
                self.hung_boot
                or self.qemu_crashed
                or STRAY_BREAKPOINT.search(console) is not None
                or WILD_ACCESS.search(console) is not None
            )
            and "pgtable_cleanup" not in console
        )

    def command_exit_code(self) -> int:
        """The command's exit code; raises LabError if the guest or QEMU ended before it did.

        Or if time ran out.
        """
        if self.overdue:
            raise self.overdue
        if self.failure:
            end = "\n".join(self.log.text().splitlines()[-5:])
            raise LabError(f"{self.failure}; the kernel's last words:\n{end}")
        if self.exit_code is not None:
            return self.exit_code
        errors = self.qemu_errors.decode(errors="replace").strip()
        code = self._qemu.wait()
        if code < 0:
            killer = signal.Signals(-code).name
            raise LabError(f"qemu was killed by {killer} (by the host, short of memory?) {errors}")
        if code > 0:
            raise LabError(f"qemu failed: {errors or f'exit code {code}'}")
        raise self._died(
            "the guest went down before the command's end", "it rebooted or powered off"
        )

    def _died(self, how: str, otherwise: str | None = None) -> LabError:
        """What to raise for a guest that did not end well: its kernel may have said why."""
        found = dmesg.reports(self.console.decode(errors="replace"))
        why = found[0] if found else otherwise
        message = f"{how}{f': {why}' if why else ''}{self._tail()}"
        return KernelReportError(message, found) if found else LabError(message)


def _within(deadline: float) -> float:
    """Seconds until then, as far as one wait goes."""
    return min(max(0.0, deadline - time.monotonic()), 60.0)


def _nameless(content: bytes, stack: ExitStack) -> int:
    """A file in memory with that content."""
    file = os.fdopen(os.memfd_create("initramfs"), "wb")
    stack.enter_context(file)
    file.write(content)
    file.flush()
    return file.fileno()


def _scratch_disk(size: int, stack: ExitStack) -> int:
    """An empty ext4 of that many bytes, sparse, in a file without a name."""
    with explained(f"make a scratch disk in {tempfile.gettempdir()}"):
        file = tempfile.TemporaryFile()  # noqa: SIM115 -- the stack closes it
        stack.enter_context(file)
        file.truncate(size)
    path = f"/proc/self/fd/{file.fileno()}"
    made = subprocess.run(
        [program("mkfs.ext4"), "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", path],
        pass_fds=[file.fileno()],
        capture_output=True,
        text=True,
        check=False,
    )
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
