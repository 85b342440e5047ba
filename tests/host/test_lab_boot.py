# SPDX-License-Identifier: MIT
"""Tests of the lab by real boots: what commands get and return, and how guests can end."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from cleanup.lab import (
    KernelReportError,
    LabError,
    Machine,
    boot,
    build_module,
    get_kernel,
    guest,
)
from cleanup.lab.guest import Guest

COMMAND = Path(sys.executable).parent / "pgtable-cleanup"
WITHOUT_MODULE = Machine(module=False)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Set a directory for temporary files, in which the lab must leave none."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    yield directory
    assert list(directory.iterdir()) == []


def lab(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [COMMAND, "lab", "run", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | dict(env or {}),
        cwd=cwd,
        check=False,
        # Boots hang now and then, so this is longer than the lab itself waits for one.
        timeout=1000,
    )


def one_line(message: str) -> str:
    """Return the message for the user, without lines on progress and on the guest's clock."""
    (line,) = [
        line
        for line in message.splitlines()
        if not line.endswith(" ...")
        and ": done in" not in line
        and "the guest's clock counted" not in line
    ]
    return line


@dataclass(frozen=True)
class Seen:
    """What a command saw in a guest that was booted with many options, and the lab's reports."""

    done: "subprocess.CompletedProcess[str]"
    document: Mapping[str, Any]
    facts: Mapping[str, Sequence[str]]
    directory: Path
    elapsed: float
    boots: Sequence[str]


LOOK = r"""
fact() { name=$1; shift; printf '%s=%s\n' "$name" "$("$@" 2>&1 | tr '\n' ' ')"; }
fact cwd pwd
fact user id -u
fact arguments printf '%s\n' "$@"
fact home sh -c 'cd && touch x && pwd'
fact cmdline cat /proc/cmdline
fact nodes sh -c 'ls -d /sys/devices/system/node/node[0-9]*'
fact cpus nproc
fact memory sh -c 'grep MemTotal: /proc/meminfo'
fact levels sh -c 'grep -cw la57 /proc/cpuinfo'
fact scratch stat -f -c '%T %s %b' "$PGTABLE_CLEANUP_SCRATCH"
fact scratch_write sh -c 'echo kept >"$PGTABLE_CLEANUP_SCRATCH/x"; cat "$PGTABLE_CLEANUP_SCRATCH/x"'
fact root_write touch "$OLD/written"
fact modprobe sh -c 'modprobe zram && ls /dev/zram0'
fact environment sh -c 'env | grep ^PGTABLE_CLEANUP'
fact mounts sh -c 'cut -d" " -f2,3 /proc/mounts'
fact device ls /dev/pgtable_cleanup
fact release uname -r
echo result >"$PGTABLE_CLEANUP_RESULTS/result"
echo to stderr >/dev/stderr
sleep 100 &
sleep 2
exit 7
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    directory = tmp_path_factory.mktemp("lab run")
    (directory / "results").mkdir()
    (directory / "look").write_text(LOOK)
    options = ["--json", "--kernel", str(get_kernel("6.12").tree), "--memory", "1500M"]
    options += ["--cpu", "max,-la57", "--cpus", "3", "--numa", "2", "--disk", "300M"]
    options += ["--append", "one=1 two", "--results", "results"]
    started = time.monotonic()
    boot_log = directory / "boots"
    env = {"PGTABLE_CLEANUP_BOOT_LOG": str(boot_log)}
    done = lab(*options, "sh", "look", "it's", "$HOME -x", cwd=directory, env=env)
    elapsed = time.monotonic() - started
    boots = boot_log.read_text()
    boot_log.unlink()
    if counted := os.environ.get("PGTABLE_CLEANUP_BOOT_LOG"):
        with Path(counted).open("a") as file:
            file.write(boots)
    document = json.loads(done.stdout)
    facts = dict(line.split("=", 1) for line in document["stdout"].splitlines())
    words = {name: fact.split() for name, fact in facts.items()}
    return Seen(done, document, words, directory, elapsed, boots.splitlines())


def test_the_exit_code_passes_through(seen: Seen) -> None:
    assert seen.done.returncode == 7, seen.done.stderr
    assert seen.document["exit_code"] == 7


def test_stdout_and_stderr_stay_apart(seen: Seen) -> None:
    assert "to stderr" not in seen.document["stdout"]
    assert seen.document["stderr"] == "to stderr\n"


def test_the_document_tells_of_the_guest_and_its_clock(seen: Seen) -> None:
    assert seen.document["kernel"] == get_kernel("6.12").release
    assert seen.document["accelerator"] in ("tcg", "kvm")
    assert isinstance(seen.document["clock_ok"], bool)
    # The command sleeps for 2 s; a busy host takes longer over it.
    assert 1.9 < seen.document["guest_seconds"] < seen.elapsed
    assert 1.9 < seen.document["seconds"] < seen.elapsed


def test_a_boot_is_counted(seen: Seen) -> None:
    *failed, booted = seen.boots
    assert booted.startswith(f"{get_kernel('6.12').release}: booted in ")
    assert booted.endswith(" s: 1500m, 3 CPUs, cpu=max,-la57, disk=300m, numa=2, append=one=1 two")
    assert all(": failed in " in line for line in failed)


def test_the_command_runs_as_root_where_the_caller_is(seen: Seen) -> None:
    assert " ".join(seen.facts["cwd"]) == str(seen.directory)
    assert seen.facts["user"] == ["0"]
    assert seen.facts["arguments"] == ["it's", "$HOME", "-x"]
    assert seen.facts["home"] == ["/run/home"]


def test_options_reach_qemu_and_the_kernel(seen: Seen) -> None:
    assert seen.facts["cmdline"][-2:] == ["one=1", "two"]
    assert len(seen.facts["nodes"]) == 2
    assert seen.facts["cpus"] == ["3"]
    assert seen.facts["levels"] == ["0"]
    assert 1_300_000 < int(seen.facts["memory"][1]) < 1_536_000


def test_the_scratch_disk_is_an_ext4(seen: Seen) -> None:
    kind, block, blocks = seen.facts["scratch"]
    assert kind == "ext2/ext3"
    assert 250 << 20 < int(block) * int(blocks) <= 300 << 20
    assert seen.facts["scratch_write"] == ["kept"]


def test_results_come_back_and_nothing_else_is_written(seen: Seen) -> None:
    assert (seen.directory / "results/result").read_text() == "result\n"
    assert "Read-only" in seen.facts["root_write"] or "denied" in seen.facts["root_write"]
    assert sorted(path.name for path in seen.directory.iterdir()) == ["look", "results"]


def test_the_environment_says_where_it_is(seen: Seen) -> None:
    environment = dict(entry.split("=") for entry in seen.facts["environment"])
    assert environment.pop("PGTABLE_CLEANUP_ACCELERATOR") in ("tcg", "kvm")
    assert environment == {
        "PGTABLE_CLEANUP_LAB": "1",
        "PGTABLE_CLEANUP_RESULTS": "/run/results",
        "PGTABLE_CLEANUP_SCRATCH": "/run/scratch",
    }


def test_the_guest_has_what_tests_want(seen: Seen) -> None:
    words = seen.facts["mounts"]
    mounts = dict(zip(words[::2], words[1::2], strict=True))
    for where, kind in {
        "/proc": "proc",
        "/sys": "sysfs",
        "/dev": "devtmpfs",
        "/dev/shm": "tmpfs",  # noqa: S108
        "/tmp": "tmpfs",  # noqa: S108
        "/run": "tmpfs",
        "/sys/kernel/debug": "debugfs",
        "/sys/kernel/tracing": "tracefs",
        "/sys/fs/cgroup": "cgroup2",
    }.items():
        assert mounts[where] == kind
    assert seen.facts["modprobe"] == ["/dev/zram0"]
    assert seen.facts["device"] == ["/dev/pgtable_cleanup"]
    assert seen.facts["release"] == [get_kernel("6.12").release]


FAULTY = """\
#include <linux/module.h>
static bool oops;
module_param(oops, bool, 0444);
static int __init faulty_init(void)
{
	WARN_ON(!oops);
	if (oops)
		WRITE_ONCE(*(volatile int *)8, 1);
	return 0;
}
module_init(faulty_init);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("warns, or dereferences a null pointer");
"""


@pytest.fixture(scope="module")
def faulty_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("faulty")
    (source / "faulty.c").write_text(FAULTY)
    (source / "Makefile").write_text(
        "obj-m := faulty.o\nall:\n\t$(MAKE) -C $(KDIR) M=$(CURDIR) modules\n"
    )
    return build_module(get_kernel("6.12"), source=source)


def test_a_real_warning_fails_the_boot(faulty_module: Path) -> None:
    with pytest.raises(KernelReportError, match="reported a bug while it booted") as caught:
        boot(machine=Machine(module=faulty_module))
    assert any("faulty_init" in line for line in caught.value.reports)


@pytest.mark.usefixtures("temporary")
def test_a_real_oops_fails_the_run(faulty_module: Path) -> None:
    """An oops ends the run at once, although the command would still sleep for hours."""
    script = f"echo before; insmod {faulty_module} oops=1; sleep 10000"
    done = lab("--no-module", "--", "sh", "-c", script)
    assert done.returncode == 1
    assert done.stdout == "before\n"
    assert "pgtable-cleanup: the guest went down before the command's end: " in done.stderr
    assert "BUG: kernel NULL pointer dereference" in done.stderr
    assert "; while it ran: sh -c 'echo before; insmod" in done.stderr
    assert "the console's end:\n" in done.stderr
    assert "Kernel panic" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("temporary")
def test_a_module_that_is_refused_fails_the_run() -> None:
    done = lab("--module-args", "mode=nonsense", "true")
    assert done.returncode == 1
    assert "the kernel refused the module" in done.stderr
    assert "nonsense" in done.stderr


@pytest.mark.usefixtures("temporary")
@pytest.mark.parametrize(
    ("number", "up"),
    [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGKILL, False)],
    ids=["SIGINT", "SIGTERM while it boots", "SIGKILL while it boots"],
)
def test_a_signal_leaves_no_qemu(number: signal.Signals, up: bool) -> None:
    with subprocess.Popen(
        [COMMAND, "lab", "run", "--no-module", "--disk", "1G", "sh", "-c", "echo up; sleep 1000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        if up:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
        qemu = qemu_of(process.pid)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert "Traceback" not in stderr
    assert process.returncode != 0
    _, alive = psutil.wait_procs([qemu], timeout=60)
    assert alive == []


def qemu_of(pid: int) -> psutil.Process:
    """Wait for the process's QEMU, and return it."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for child in psutil.Process(pid).children(recursive=True):
            # A child may end meanwhile, and setpriv has another name until it executes QEMU.
            with suppress(psutil.NoSuchProcess):
                if child.name().startswith("qemu"):
                    return child
        time.sleep(0.01)
    raise AssertionError("no QEMU")


@pytest.mark.usefixtures("temporary")
def test_the_shell_has_the_terminal() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [COMMAND, "lab", "shell", "--no-module"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        said = b""
        try:
            # Wait for the shell's prompt: QEMU drops what is typed before.
            said += read_until(ours, b"# ")
            os.write(ours, b"tty; echo $((6 * 7)); exit 3\n")
            said += read_until(ours, b"42")
            assert process.wait(timeout=60) == 3
        finally:
            process.kill()
    os.close(theirs)
    os.close(ours)
    assert b"/dev/hvc0" in said


def read_until(descriptor: int, wanted: bytes) -> bytes:
    said = b""
    end = time.monotonic() + 300
    while wanted not in said:
        assert select.select([descriptor], [], [], end - time.monotonic())[0], said
        said += os.read(descriptor, 4096)
    return said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kernel", "5.10"], "unknown kernel '5.10'"),
        (["--memory", "lots"], "'lots' is no size"),
        (["--memory", "1500"], "1500 (1500 bytes): QEMU takes whole MiB"),
        (["--disk", "0"], "QEMU takes whole MiB"),
        (["--numa", "0"], "--numa"),
        (["--results", "/no/such"], "/no/such"),
        (["--timeout", "soon"], "--timeout"),
    ],
)
def test_bad_usage_is_told_before_any_work(options: list[str], message: str) -> None:
    done = lab(*options, "true")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_no_command_is_bad_usage() -> None:
    assert lab().returncode == 2


def test_no_qemu_on_path(tmp_path: Path) -> None:
    done = lab("true", env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert one_line(done.stderr).endswith("not found: install qemu-system-x86")


def test_an_impossible_machine_shows_qemus_own_words() -> None:
    done = lab("--no-module", "--cpu", "no-such-cpu", "true")
    assert done.returncode == 1
    assert "qemu failed" in done.stderr
    assert "no-such-cpu" in done.stderr


def test_no_debian_mirror(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "sources.list").write_text("deb http://archive.example/ubuntu noble main\n")
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\n'
        f'Dir::Etc::sourceparts "{tmp_path}/parts";\n'
    )
    env = {"APT_CONFIG": str(tmp_path / "apt.conf"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = lab("true", env={**env, "PGTABLE_CLEANUP_MIRROR": ""})
    assert done.returncode == 1
    assert "this host's apt has no Debian mirror" in one_line(done.stderr)


def test_no_network_leaves_no_broken_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    # Nothing listens on this port.
    env = {"PGTABLE_CLEANUP_MIRROR": "http://127.0.0.1:9/debian", "XDG_CACHE_HOME": str(cache)}
    env |= {"http_proxy": "", "https_proxy": ""}
    done = lab("true", env=env)
    assert done.returncode == 1
    message = one_line(done.stderr)
    assert "cannot download from the Debian mirror" in message
    assert "check the network" in message
    made = {path.name for path in (cache / "pgtable-cleanup").iterdir()}
    assert made <= {"apt", "kernels", "locks"}
    assert list((cache / "pgtable-cleanup").glob("kernels/*")) == []


@pytest.fixture
def hung_at_first(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    """Boot a guest whose first boot is made to hang, so that the lab boots it a second time."""
    limits = iter([0.1, guest.BOOT_SECONDS])
    start = Guest.start

    def started(self: Guest, *arguments: Any) -> None:  # noqa: ANN401
        monkeypatch.setattr(guest, "BOOT_SECONDS", next(limits))
        start(self, *arguments)

    monkeypatch.setattr(Guest, "start", started)
    with boot(machine=WITHOUT_MODULE) as booted:
        assert next(limits, None) is None
        yield booted


@pytest.fixture
def crashed_at_first(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    """Boot a guest whose QEMU is made to crash once, so that the lab boots it a second time."""
    crashes = iter([True, False])
    wait = Guest._wait

    def waited(self: Guest, *arguments: Any) -> None:  # noqa: ANN401
        if not self.boot_seconds and next(crashes):
            self._qemu._process.send_signal(signal.SIGSEGV)
        wait(self, *arguments)

    monkeypatch.setattr(Guest, "_wait", waited)
    with boot(machine=WITHOUT_MODULE) as booted:
        assert next(crashes, None) is None
        yield booted


def test_a_boot_that_hangs_is_tried_again_and_a_reboot_is_no_end(hung_at_first: Guest) -> None:
    assert hung_at_first.run(["sh", "-c", "exit 3"]).exit_code == 3
    with pytest.raises(LabError, match="before the command's end: it rebooted or powered off"):
        hung_at_first.run(["sh", "-c", "reboot -f; sleep 10000"])
    with pytest.raises(LabError, match="runs no more commands: the guest went down"):
        hung_at_first.run(["true"])


def test_a_crash_of_qemu_is_tried_again_and_a_hang_ends_in_time(crashed_at_first: Guest) -> None:
    assert crashed_at_first.run(["sh", "-c", "exit 3"]).exit_code == 3
    began = time.monotonic()
    with pytest.raises(LabError, match=r"not done within 3 s .*; while it ran: sleep 10000"):
        crashed_at_first.run(["sleep", "10000"], timeout=3)
    assert time.monotonic() - began < 60
    assert crashed_at_first.ended
