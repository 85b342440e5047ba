# SPDX-License-Identifier: MIT
"""A guest that is booted once and runs any number of commands, one after the other."""

import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from cleanup.lab import dmesg, initramfs
from cleanup.lab.errors import KernelReportError, LabError
from cleanup.lab.exchange import Exchange, Output
from cleanup.lab.kernels import Kernel
from cleanup.lab.machine import Emulator, Machine
from cleanup.lab.progress import Progress
from cleanup.lab.qemu import Qemu, terminal_restored

DEFAULT_TIMEOUT = 900.0
# The limit on a boot. It takes 5 to 10 seconds on an idle host, 30 with a debug kernel, and
# several times that beside other guests.
BOOT_SECONDS = 300.0
# The limit on killing the processes that a command leaves, and on getting the rest of its output.
SETTLE_SECONDS = 60.0
SHUTDOWN_SECONDS = 60.0
# A message shows the console's last TAIL_LINES, or from a report of a bug on up to MOST_LINES.
TAIL_LINES = 40
MOST_LINES = 200
# A message shows at most the first SHOWN_COMMAND characters of a command.
SHOWN_COMMAND = 200
# A command's script must fit into an argument (128 KiB on Linux) and into a socket's buffer.
MOST_SCRIPT_BYTES = 120 << 10

GUEST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

STRAY_BREAKPOINT = re.compile(r"\bint3: 0000 \[#1\]")
# Finds KASAN's report of a bad access in an interrupt that came during identify_cpu().
WILD_ACCESS = re.compile(r"\bKASAN: wild-memory-access\b.*\bidentify_cpu\+0x", re.DOTALL)


@dataclass(frozen=True)
class GuestResult:
    """The result of a command in a guest."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    console: str
    """The serial console since the boot: the kernel's warnings and worse."""
    dmesg: str
    """What the kernel logged since the last command, or since the boot."""
    kernel_release: str
    accelerator: str
    """``tcg`` or ``kvm``"""
    boot_seconds: float
    """From QEMU's start until the guest was ready, by the host's clock."""
    seconds: float
    """How long the command took, by the host's clock."""
    guest_seconds: float
    """How long the command took, by the guest's clock."""
    results: Path | None
    icount: bool = False
    """Whether the guest's clock counted instructions."""

    @property
    def clock_ok(self) -> bool:
        """Whether times taken in the guest are valid: its clock went as fast as the host's.

        A clock that counts instructions is right whatever the host's says.
        """
        return self.icount or abs(self.guest_seconds - self.seconds) <= 0.5 + 0.05 * self.seconds


class Guest:
    """A guest that waits for commands; `boot` makes it.

    Use it in a ``with`` statement, or `close` it.  It lives no longer than the thread that booted
    it, and only one thread may use it.
    """

    def __init__(
        self,
        kernel: Kernel,
        machine: Machine,
        emulator: Emulator,
        *,
        writable: Path | None,
        check_dmesg: bool,
    ) -> None:
        """Prepare a guest that `start` boots."""
        self.kernel = kernel
        self.machine = machine
        self.accelerator = emulator.accelerator
        self.boot_seconds = 0.0
        """From QEMU's start until the guest was ready."""
        self.ended: str | None = None
        """Why the guest runs no more commands, or None."""
        self._emulator = emulator
        self._writable = writable
        self._check_dmesg = check_dmesg
        self._console = bytearray()
        self._exchange = Exchange()
        self._half_message = b""
        self._hung = False
        self._crashed = False
        self._doing = "while it booted"
        self._stack = ExitStack()
        self._qemu: Qemu

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self.close()
        else:
            self.end("what used it failed")

    def start(self, contents: initramfs.Contents, progress: Progress) -> None:
        """Boot the initramfs of ``contents``.  Raises LabError if the guest doesn't get ready."""
        with progress.step(f"booting {self.kernel.release}"):
            terminal = contents.shell_size is not None
            if terminal:
                self._stack.enter_context(terminal_restored())
            self._qemu = Qemu(
                self.kernel,
                self.machine,
                self._emulator,
                initrd=initramfs.initramfs(contents, self._exchange.token),
                results=self._writable,
                terminal=terminal,
                outputs={
                    "console": self._console.extend,
                    "control": self._hear,
                    **{name: partial(self._feed, name) for name in self._exchange.streams},
                },
            )
            self._stack.callback(self._qemu.kill)
            deadline = self._qemu.started + BOOT_SECONDS
            try:
                late = f"the guest did not boot within {BOOT_SECONDS:g} s"
                self._wait(self._exchange.booted, deadline, late)
            finally:
                self.boot_seconds = time.monotonic() - self._qemu.started
        if self._exchange.failure:
            last = "\n".join(self._exchange.log.text().splitlines()[-5:])
            raise LabError(f"{self._exchange.failure}; the kernel's last words:\n{last}")
        self._raise_reports(self._exchange.log.text())
        self._qemu.rest()

    def run(
        self,
        command: Sequence[str],
        *,
        timeout: float = DEFAULT_TIMEOUT,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        results: Path | None = None,
        keep_files: bool = False,
        on_stdout: Output | None = None,
        on_stderr: Output | None = None,
    ) -> GuestResult:
        """Run a command as root and wait for it, at most ``timeout`` seconds.

        It runs in ``cwd`` (this process's directory by default) with ``env`` added to the guest's
        environment.  ``results`` is a directory of the host that the command can write to: `boot`'s
        ``writable`` or one below it.  The command finds the path in PGTABLE_CLEANUP_RESULTS.
        ``on_stdout`` and ``on_stderr`` get the output as it comes.

        When the command ends, the processes that it leaves are killed.  /tmp, /dev/shm and HOME
        are empty when it starts, unless ``keep_files`` is true; what else the last command changed
        (modules and their parameters, sysctls, mounts, cgroups, the scratch disk) stays changed.

        The command's own failure is in the result.  Raises LabError if the guest dies or hangs,
        and KernelReportError if its kernel logged a bug since the last command; either names the
        command and ends the guest.  A guest that has ended raises LabError.
        """
        if self.ended:
            raise LabError(f"this guest runs no more commands: {self.ended}")
        environment = {**self._environment(results), **(env or {})}
        script = initramfs.script(command, cwd or Path.cwd(), environment)
        if len(script) > MOST_SCRIPT_BYTES:
            raise LabError(f"the command and its environment are too long: {len(script)} bytes")
        with self._ending_on_error():
            self._expect_alive()
            shown = shlex.join(command)
            cut = shown if len(shown) <= SHOWN_COMMAND else f"{shown[:SHOWN_COMMAND]}…"
            self._doing = f"while it ran: {cut}"
            exchange = self._exchange = Exchange(on_stdout, on_stderr)
            self._qemu.resume()
            self._send(b"run %s %d\n%s\0" % (exchange.token.encode(), keep_files, script))
            late = f"the guest was not done within {timeout:g} s (see --timeout)"
            self._wait(exchange.exited, time.monotonic() + timeout, late)
            late = f"what the command left behind did not end within {SETTLE_SECONDS:g} s"
            self._wait(exchange.settled, time.monotonic() + SETTLE_SECONDS, late)
            self._raise_reports(exchange.log.text())
            self._qemu.rest()
        return self._result(exchange, results)

    def close(self) -> None:
        """Power the guest off, unless it has ended.

        Raises KernelReportError if its kernel reports a bug meanwhile, LabError if it hangs.
        """
        if self.ended:
            return
        with self._ending_on_error():
            self._expect_alive()
            self._doing = f"as it shut down, last {self._doing}"
            self._qemu.resume()
            self._send(b"off\n")
            deadline = time.monotonic() + SHUTDOWN_SECONDS
            while self._qemu.connected:
                self._qemu.receive(deadline)
                if time.monotonic() >= deadline:
                    raise self._died("the guest did not power off")
            if failure := self._qemu.failure():
                raise failure
            self._raise_reports(self._console.decode(errors="replace"))
        self.end("it was closed")

    def end(self, why: str) -> None:
        """Kill the guest, unless it has ended."""
        if not self.ended:
            self.ended = why
            self._stack.close()

    @property
    def unlucky(self) -> bool:
        """Whether a boot failed by a fault of QEMU or of Linux that another boot may not meet.

        Linux patches its code by way of a breakpoint.  Under QEMU's TCG with several threads a
        CPU may hit a breakpoint that is gone already, which the kernel takes for a stray one
        (once in some 200 boots on 7.2).  identify_cpu() forgets for a moment that the CPU has
        5-level paging, and KASAN takes an interrupt's accesses then for wild (6.12 and 7.3; one
        boot in ten).  A boot may hang without a word (once in some 300 on a busy host), and QEMU
        7.2 itself may crash (seen once).
        Once the module is loaded, no failure is put down to bad luck.
        """
        console = self._console.decode(errors="replace")
        return (
            not self._exchange.times
            and (
                self._hung
                or self._crashed
                or STRAY_BREAKPOINT.search(console) is not None
                or WILD_ACCESS.search(console) is not None
            )
            and "pgtable_cleanup" not in console
        )

    @contextmanager
    def _ending_on_error(self) -> Iterator[None]:
        """End the guest if the block raises."""
        try:
            yield
        except BaseException as error:
            self.end(str(error).partition("\n")[0] or type(error).__name__)
            raise

    def _environment(self, results: Path | None) -> dict[str, str]:
        """Return the environment of the guest's commands."""
        path = GUEST_PATH
        if sys.prefix != sys.base_prefix:
            path = f"{sys.prefix}/bin:{path}"
        environment = {
            "HOME": initramfs.HOME,
            "LANG": "C.UTF-8",
            "LOGNAME": "root",
            "PATH": f"{path}:/run/lab/bin",
            "PGTABLE_CLEANUP_ACCELERATOR": self.accelerator,
            "PGTABLE_CLEANUP_LAB": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SHELL": "/bin/sh",
            "TERM": os.environ.get("TERM", "dumb"),
            "USER": "root",
        }
        if self.machine.disk:
            environment["PGTABLE_CLEANUP_SCRATCH"] = initramfs.SCRATCH
        if self.machine.icount:
            environment["PGTABLE_CLEANUP_ICOUNT"] = "1"
        if results is not None:
            if self._writable is None or not results.resolve().is_relative_to(self._writable):
                raise LabError(f"{results} is not below the directory that this guest can write to")
            if not results.is_dir():
                raise LabError(f"{results} is no directory: make it first, the results go there")
            below = results.resolve().relative_to(self._writable)
            environment["PGTABLE_CLEANUP_RESULTS"] = str(Path(initramfs.RESULTS) / below)
        return environment

    def _hear(self, data: bytes) -> None:
        *messages, self._half_message = (self._half_message + data).split(b"\n")
        for message in messages:
            self._exchange.hear(message.decode(errors="replace"))

    def _feed(self, stream: str, data: bytes) -> None:
        self._exchange.streams[stream].feed(data)

    def _send(self, data: bytes) -> None:
        try:
            # If the guest is gone, the wait that follows finds out why.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._qemu.send(data)
        except TimeoutError as error:
            raise self._died("the guest does not take commands any more") from error

    def _expect_alive(self) -> None:
        """Raise LabError if the guest went down since the last command."""
        while self._qemu.connected and self._qemu.receive(0.0):
            pass
        if not self._qemu.connected:
            raise self._gone("the guest went down while it waited for a command")

    def _wait(self, done: Callable[[], bool], deadline: float, late: str) -> None:
        """Wait until ``done()``.  Raises LabError if the guest goes down, or time runs out."""
        while not done():
            if not self._qemu.connected:
                end = "the command's end" if self.boot_seconds else "it was ready"
                raise self._gone(f"the guest went down before {end}")
            self._qemu.receive(deadline)
            if time.monotonic() >= deadline and not done():
                error = self._died(late)
                self._hung = not isinstance(error, KernelReportError)
                raise error

    def _gone(self, how: str) -> LabError:
        """Return the error for a guest whose QEMU has ended."""
        failure = self._qemu.failure()
        self._crashed = self._qemu.crashed
        return failure or self._died(how, "it rebooted or powered off")

    def _died(self, how: str, otherwise: str | None = None) -> LabError:
        """Return the error for a guest that died, with the bugs that its console shows."""
        found = dmesg.reports(self._console.decode(errors="replace"))
        why = found[0] if found else otherwise
        message = f"{how}{f': {why}' if why else ''}; {self._doing}{self._tail()}"
        return KernelReportError(message, found) if found else LabError(message)

    def _tail(self) -> str:
        """Return the console from the first report of a bug on, or its last lines."""
        lines = self._console.decode(errors="replace").splitlines()
        first = next((n for n, line in enumerate(lines) if dmesg.reports(line)), len(lines))
        end = lines[min(first, max(0, len(lines) - TAIL_LINES)) :][-MOST_LINES:]
        return "; the console's end:\n" + "\n".join(end) if end else "; the console is empty"

    def _raise_reports(self, log: str) -> None:
        """Raise KernelReportError if a log reports a bug: the dmesg gate."""
        found = dmesg.reports(log) if self._check_dmesg else []
        if found:
            lines = [line.strip() for line in log.splitlines()]
            first = lines.index(found[0])
            shown = "\n".join(lines[first : first + MOST_LINES])
            message = f"the guest's kernel reported a bug {self._doing}\n{shown}"
            raise KernelReportError(message, found)

    def _result(self, exchange: Exchange, results: Path | None) -> GuestResult:
        assert exchange.exit_code is not None  # noqa: S101 -- the caller waited for it
        return GuestResult(
            exit_code=exchange.exit_code,
            stdout=bytes(exchange.streams["stdout"].content),
            stderr=bytes(exchange.streams["stderr"].content),
            console=self._console.decode(errors="replace"),
            dmesg=exchange.log.text(),
            kernel_release=self.kernel.release,
            accelerator=self.accelerator,
            boot_seconds=self.boot_seconds,
            seconds=exchange.times["exit"] - exchange.times["started"],
            guest_seconds=exchange.uptimes["exit"] - exchange.uptimes["started"],
            results=results,
            icount=self.machine.icount,
        )
