# SPDX-License-Identifier: MIT
"""One run: boot a kernel, run a command in it, bring back what came of it, leave nothing behind.

The guest's disk and initramfs are files without a name and QEMU dies with this process, so even a
killed run leaves neither file nor process.
"""

import os
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cleanup.lab import dmesg, machine
from cleanup.lab.build import build_module
from cleanup.lab.buildroot import get_build_root
from cleanup.lab.cache import explained
from cleanup.lab.errors import KernelReportError, LabError
from cleanup.lab.guest import RESULTS, SCRATCH, Guest, initramfs
from cleanup.lab.host import dies_with_us, program
from cleanup.lab.kernels import DEFAULT, Kernel, get_kernel
from cleanup.lab.progress import Progress, Silent

# From QEMU's start to the first command, in seconds: 5 to 10 on an idle host.
BOOT_SECONDS = 120.0
# From the command's end to QEMU's, in seconds.
SHUTDOWN_SECONDS = 60.0
DEFAULT_TIMEOUT = 900.0
TAIL_LINES = 40
GUEST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Output = Callable[[bytes], object]


@dataclass(frozen=True)
class GuestResult:
    """What came of a run."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    console: str
    """The serial console: the kernel's warnings and worse."""
    dmesg: str
    """The kernel's whole log."""
    kernel_release: str
    accelerator: str
    """``tcg`` or ``kvm``"""
    boot_seconds: float
    """From QEMU's start to the command's, by the host's clock."""
    seconds: float
    """The command, by the host's clock."""
    guest_seconds: float
    """The command, by the guest's clock."""
    results: Path | None

    @property
    def clock_ok(self) -> bool:
        """Whether the guest's clock went as fast as the host's, so that times taken there count."""
        return abs(self.guest_seconds - self.seconds) <= 0.5 + 0.05 * self.seconds


def run(
    command: Sequence[str],
    *,
    kernel: str | Kernel = DEFAULT,
    memory: str = "2G",
    cpu: str = "max",
    cpus: int = 2,
    disk: str | None = None,
    numa: int = 1,
    append: str = "",
    qemu_args: Sequence[str] = (),
    load_module: bool = True,
    module: Path | None = None,
    module_args: Sequence[str] = (),
    results: Path | None = None,
    env: Mapping[str, str] | None = None,
    visible: Sequence[Path] = (),
    timeout: float = DEFAULT_TIMEOUT,
    check_dmesg: bool = True,
    on_stdout: Output | None = None,
    on_stderr: Output | None = None,
    progress: Progress | None = None,
    interactive: bool = False,
) -> GuestResult:
    """Run a command as root in a virtual machine with that kernel and the host's files.

    The host's root is read-only there; ``results`` is a directory of the host that the command
    can write to, by the name in PGTABLE_CLEANUP_RESULTS.  ``memory`` and ``disk`` are sizes such
    as ``2G``; with ``disk`` an empty ext4 is mounted where PGTABLE_CLEANUP_SCRATCH says.  The
    module is built and loaded, with ``module_args``, unless ``load_module`` is false; ``module``
    is a .ko to load in its place.  ``env`` adds to the guest's environment.  /tmp and /run are
    the guest's own, but the working directory, the Python environment and ``visible`` are seen
    below them too.

    ``timeout`` is in seconds, from the boot on.  ``on_stdout`` and ``on_stderr`` get the output
    as it comes.  With ``interactive`` the command has this process's terminal.

    Raises LabError if the run could not be: no package, no kernel, a module that is refused, a
    panic, an oops, a hang; KernelReportError if ``check_dmesg`` is true and the kernel logged a
    bug.  The command's own failure is in the result.
    """
    progress = progress or Silent()
    version = machine.qemu_version()
    disk_bytes = machine.size_in_bytes(disk) if disk else 0
    machine.size_in_bytes(memory)
    if results is not None and not results.is_dir():
        raise LabError(f"{results} is no directory: make it first, the results go there")
    if isinstance(kernel, str):
        kernel = get_kernel(kernel, progress=progress)
    root = get_build_root(progress=progress)
    if load_module and module is None:
        module = build_module(kernel, progress=progress)
    accelerator = machine.accelerator(kernel, version)
    environment = _environment(accelerator, disk is not None, results is not None) | dict(env or {})
    guest = Guest(
        kernel=kernel,
        busybox=root.busybox,
        command=command,
        cwd=Path.cwd(),
        environment=environment,
        token=secrets.token_hex(16),
        module=module if load_module else None,
        module_args=module_args,
        visible=[Path.cwd(), Path(sys.prefix), Path(sys.base_prefix), *visible],
        disk=disk is not None,
        results=results is not None,
        shell_size=shutil.get_terminal_size()[::-1] if interactive else None,
    )
    hardware = machine.Machine(
        memory=memory,
        cpu=cpu,
        cpus=cpus,
        numa=numa,
        append=append,
        accelerator=accelerator,
        qemu_version=version,
        qemu_args=qemu_args,
    )
    terminal = _terminal_restored() if interactive else nullcontext()
    with terminal, _Session(guest, on_stdout, on_stderr) as session:
        session.start(hardware, disk_bytes, results)
        session.follow(timeout, progress)
        return session.result(accelerator, results, check_dmesg)


def _environment(accelerator: str, disk: bool, results: bool) -> dict[str, str]:
    path = GUEST_PATH
    if sys.prefix != sys.base_prefix:
        path = f"{sys.prefix}/bin:{path}"
    environment = {
        "HOME": "/run/home",
        "LANG": "C.UTF-8",
        "LOGNAME": "root",
        "PATH": f"{path}:/run/lab/bin",
        "PGTABLE_CLEANUP_ACCELERATOR": accelerator,
        "PGTABLE_CLEANUP_LAB": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SHELL": "/bin/sh",
        "TERM": os.environ.get("TERM", "dumb"),
        "USER": "root",
    }
    if disk:
        environment["PGTABLE_CLEANUP_SCRATCH"] = SCRATCH
    if results:
        environment["PGTABLE_CLEANUP_RESULTS"] = RESULTS
    return environment


class Stream:
    """One of the guest's streams, up to the token that ends it."""

    def __init__(self, token: str, output: Output | None = None) -> None:
        self._token = token.encode()
        self._output = output
        self._held = b""
        self.content = bytearray()
        self.ended = False

    def feed(self, data: bytes) -> None:
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


class _Session:
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
        # Of QEMU's start, the command's and its end; and the guest's uptime at the last two.
        self.times: list[float] = []
        self.uptimes: list[float] = []
        self._said = b""
        self._stack = ExitStack()
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> "_Session":
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
        """Read what the guest says until QEMU is gone; raises LabError if that takes too long."""
        with ExitStack() as step:
            step.enter_context(progress.step(f"booting {self.guest.kernel.release}"))
            while self._selector.get_map():
                deadline, late = self._deadline(timeout)
                for key, _ in self._selector.select(_within(deadline)):
                    self._receive(key)
                if self.uptimes:
                    step.close()
                if time.monotonic() >= deadline:
                    raise LabError(f"{late}{self._tail()}")

    def _deadline(self, timeout: float) -> tuple[float, str]:
        """When to give up, and what to say then."""
        done = self.exit_code is not None or self.failure
        if done:
            return self.times[-1] + SHUTDOWN_SECONDS, "the guest did not power off"
        end = self.times[0] + timeout
        ready = self.times[0] + BOOT_SECONDS
        if not self.uptimes and ready < end:
            return ready, f"the guest did not boot within {BOOT_SECONDS:g} s"
        return end, f"the guest was not done within {timeout:g} s (see --timeout)"

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
        lines = self.console.decode(errors="replace").splitlines()[-TAIL_LINES:]
        return "; the console's end:\n" + "\n".join(lines) if lines else "; the console is empty"

    def result(self, accelerator: str, results: Path | None, check_dmesg: bool) -> GuestResult:
        """What came of it.  Raises LabError if the guest died, or the kernel reported a bug."""
        console = self.console.decode(errors="replace")
        log = self.log.content.decode(errors="replace")
        if self.failure:
            end = "\n".join(log.splitlines()[-5:])
            raise LabError(f"{self.failure}; the kernel's last words:\n{end}")
        if self.exit_code is None:
            self._raise_death(console)
        found = dmesg.reports(log) or dmesg.reports(console)
        if check_dmesg and found:
            shown = "\n".join(found[:TAIL_LINES])
            raise KernelReportError(f"the guest's kernel reported a bug:\n{shown}", found)
        return GuestResult(
            exit_code=self.exit_code or 0,
            stdout=bytes(self.stdout.content),
            stderr=bytes(self.stderr.content),
            console=console,
            dmesg=log,
            kernel_release=self.guest.kernel.release,
            accelerator=accelerator,
            boot_seconds=self.times[1] - self.times[0],
            seconds=self.times[2] - self.times[1],
            guest_seconds=self.uptimes[1] - self.uptimes[0],
            results=results,
        )

    def _raise_death(self, console: str) -> NoReturn:
        errors = self.qemu_errors.decode(errors="replace").strip()
        code = self._qemu.wait()
        if code < 0:
            killer = signal.Signals(-code).name
            raise LabError(f"qemu was killed by {killer} (by the host, short of memory?) {errors}")
        if code > 0:
            raise LabError(f"qemu failed: {errors or f'exit code {code}'}")
        found = [line for line in console.splitlines() if "Kernel panic" in line]
        found = found or dmesg.reports(console)
        what = found[0].strip() if found else "it rebooted or powered off"
        raise LabError(f"the guest went down before the command's end: {what}{self._tail()}")


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
def _terminal_restored() -> Iterator[None]:
    """Give the terminal its settings back, whatever QEMU left behind."""
    if not sys.stdin.isatty():
        raise LabError("the shell needs a terminal: use lab run for commands")
    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
