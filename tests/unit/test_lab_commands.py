# SPDX-License-Identifier: MIT
"""Tests of how commands in a guest end, whatever the guest reports; QEMU is faked."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cleanup.lab import Guest, Kernel, KernelReportError, LabError, Machine, guest
from cleanup.lab.machine import Emulator

REPORT = "[  3.1] BUG: Bad page state in process test"


class FakeQemu:
    """A QEMU whose guest answers each command as the test says."""

    def __init__(self, guest: Guest, answer: Callable[["FakeQemu"], None]) -> None:
        self.guest = guest
        self.answer = answer
        self.sent: list[bytes] = []
        self.connected = True
        self.killed = False
        self.error: LabError | None = None
        self.crashed = False

    def send(self, data: bytes) -> None:
        self.sent.append(data)
        self.answer(self)

    def receive(self, _deadline: float) -> bool:
        return False

    def resume(self) -> None:
        pass

    def rest(self) -> None:
        pass

    def kill(self) -> None:
        self.killed = True

    def failure(self) -> LabError | None:
        return self.error

    def say(self, message: str) -> None:
        self.guest._hear(f"{message}\n".encode())

    def end_streams(self, stdout: bytes = b"", log: str = "") -> None:
        token = self.guest._exchange.token.encode()
        for stream, content in (("stdout", stdout), ("stderr", b""), ("log", log.encode())):
            self.guest._feed(stream, content + token)


def made(
    answer: Callable[[FakeQemu], None], writable: Path | None = None
) -> tuple[Guest, FakeQemu]:
    """Make a guest that has booted, and its QEMU."""
    kernel = Kernel("x", "x", Path(), Path(), Path())
    emulator = Emulator((10,), "tcg")
    made = Guest(kernel, Machine(), emulator, writable=writable, check_dmesg=True)
    qemu = FakeQemu(made, answer)
    made._qemu = qemu  # type: ignore[assignment]
    made._stack.callback(qemu.kill)
    made.boot_seconds = 5.0
    return made, qemu


def succeed(qemu: FakeQemu) -> None:
    qemu.say("started 10.5")
    qemu.say("exit 3 12.0")
    qemu.end_streams(b"out")


def test_a_command_that_ends_is_reported_and_the_next_one_runs() -> None:
    lab_guest, qemu = made(succeed)
    for _ in range(2):
        result = lab_guest.run(["cmd", "it's"], env={"A": "1"})
        assert (result.exit_code, result.stdout, result.guest_seconds) == (3, b"out", 1.5)
    first, second = qemu.sent
    assert first.startswith(b"run ")
    assert first.endswith(b"\0")
    assert b"cmd 'it'\"'\"'s'" in first
    # Each command has a token of its own: an old token must not end a later command's output.
    assert first.split()[1] != second.split()[1]


def test_results_are_named_by_where_they_are_in_the_guest(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    lab_guest, qemu = made(succeed, writable=tmp_path)
    for directory, name in ((tmp_path, "/run/results"), (below, "/run/results/below")):
        lab_guest.run(["cmd"], results=directory)
        assert f"PGTABLE_CLEANUP_RESULTS={name}\n".encode() in qemu.sent[-1]
    with pytest.raises(LabError, match="not below"):
        lab_guest.run(["cmd"], results=tmp_path.parent)
    with pytest.raises(LabError, match="no directory: make it first"):
        lab_guest.run(["cmd"], results=tmp_path / "none")
    assert lab_guest.ended is None


def test_a_report_after_a_command_ends_the_guest() -> None:
    def complain(qemu: FakeQemu) -> None:
        qemu.say("started 10.5")
        qemu.say("exit 0 12.0")
        qemu.end_streams(log=f"[  3.0] fine\n{REPORT}\n")

    lab_guest, qemu = made(complain)
    with pytest.raises(KernelReportError, match="reported a bug while it ran: cmd") as caught:
        lab_guest.run(["cmd"])
    assert caught.value.reports == [REPORT]
    assert qemu.killed
    with pytest.raises(LabError, match=r"runs no more commands: .* while it ran: cmd"):
        lab_guest.run(["other"])


def test_what_does_not_end_after_the_command_ends_the_guest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guest, "SETTLE_SECONDS", 0.0)
    lab_guest, qemu = made(lambda qemu: qemu.say("exit 0 12.0"))
    with pytest.raises(LabError, match=r"left behind did not end within .* while it ran: cmd"):
        lab_guest.run(["cmd"])
    assert qemu.killed


def test_a_guest_that_went_down_between_commands_does_not_blame_the_next() -> None:
    lab_guest, qemu = made(succeed)
    lab_guest.run(["first"])
    qemu.connected = False
    with pytest.raises(LabError, match=r"while it waited for a command.*; while it ran: first"):
        lab_guest.run(["second"])
    assert len(qemu.sent) == 1


def test_qemus_own_failure_is_told_as_it_is() -> None:
    def fail(qemu: FakeQemu) -> None:
        qemu.connected = False
        qemu.error = LabError("qemu was killed by SIGKILL")
        raise BrokenPipeError

    lab_guest, _ = made(fail)
    with pytest.raises(LabError, match=r"^qemu was killed by SIGKILL$"):
        lab_guest.run(["cmd"])


def test_a_guest_that_takes_no_command_ends() -> None:
    def block(_qemu: FakeQemu) -> None:
        raise TimeoutError

    lab_guest, qemu = made(block)
    with pytest.raises(LabError, match="does not take commands any more"):
        lab_guest.run(["cmd"])
    assert qemu.killed


def test_ctrl_c_in_a_command_ends_the_guest() -> None:
    def interrupt(_qemu: FakeQemu) -> None:
        raise KeyboardInterrupt

    lab_guest, qemu = made(interrupt)
    with pytest.raises(KeyboardInterrupt):
        lab_guest.run(["cmd"])
    assert qemu.killed
    assert lab_guest.ended == "KeyboardInterrupt"


def test_a_long_command_is_cut_in_messages() -> None:
    lab_guest, _ = made(lambda _qemu: None)
    with pytest.raises(LabError) as caught:
        lab_guest.run(["cmd", "x" * 1000], timeout=0.0)
    assert f"cmd {'x' * 100}" in str(caught.value)
    assert "x" * 300 not in str(caught.value)


def test_a_report_as_it_shuts_down_fails_its_close() -> None:
    def complain(qemu: FakeQemu) -> None:
        succeed(qemu)
        if qemu.sent[-1] == b"off\n":
            qemu.guest._console.extend(f"{REPORT}\n".encode())
            qemu.connected = False

    lab_guest, qemu = made(complain)
    lab_guest.run(["cmd"])
    with pytest.raises(KernelReportError, match="as it shut down, last while it ran: cmd"):
        lab_guest.close()
    assert qemu.killed
    lab_guest.close()


def test_leaving_a_guest_powers_it_off() -> None:
    def power_off(qemu: FakeQemu) -> None:
        qemu.connected = False

    lab_guest, qemu = made(power_off)
    with lab_guest:
        pass
    assert qemu.sent == [b"off\n"]
    assert qemu.killed
