# SPDX-License-Identifier: MIT
"""The lab, by really booting: what goes in, what comes out, and every way in which it can end."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
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
    """The directory for temporary files, of which the lab must leave none."""
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
        # More than the lab's own patience with a boot, which hangs now and then.
        timeout=1000,
    )


def one_line(message: str) -> str:
    """The message for the user: not what tells of progress, nor of a busy host's clock."""
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
    """One boot with every option, and what the command saw of it."""

    done: "subprocess.CompletedProcess[str]"
    facts: Mapping[str, Sequence[str]]
    directory: Path


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
exit 7
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    directory = tmp_path_factory.mktemp("lab run")
    (directory / "results").mkdir()
    (directory / "look").write_text(LOOK)
    options = ["--memory", "1500M", "--cpu", "max,-la57", "--cpus", "3", "--numa", "2"]
    options += ["--disk", "300M", "--append", "one=1 two", "--results", "results"]
    done = lab(*options, "sh", "look", "it's", "$HOME -x", cwd=directory)
    facts = dict(line.split("=", 1) for line in done.stdout.splitlines())
    return Seen(done, {name: fact.split() for name, fact in facts.items()}, directory)


def test_the_exit_code_passes_through(seen: Seen) -> None:
    assert seen.done.returncode == 7, seen.done.stderr


def test_stdout_and_stderr_stay_apart(seen: Seen) -> None:
    assert "to stderr" not in seen.done.stdout
    assert one_line(seen.done.stderr) == "to stderr"


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


@pytest.mark.usefixtures("temporary")
def test_json_and_a_kernel_by_its_directory() -> None:
    tree = get_kernel("6.12").tree
    started = time.monotonic()
    done = lab("--json", "--kernel", tree, "--", "sh", "-c", "echo out; echo err >&2; sleep 2")
    elapsed = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["exit_code"] == 0
    assert document["stdout"] == "out\n"
    assert document["stderr"] == "err\n"
    assert document["kernel"] == get_kernel("6.12").release
    assert document["accelerator"] in ("tcg", "kvm")
    assert isinstance(document["clock_ok"], bool)
    # However long a busy host took over it.
    assert 1.9 < document["guest_seconds"] < elapsed
    assert 1.9 < document["seconds"] < elapsed


@pytest.mark.measured
@pytest.mark.usefixtures("temporary")
def test_a_clock_that_counts_instructions_repeats_itself() -> None:
    """The same loop, over and over in one boot: within 2 % however busy the host is.

    The shell reads the clock itself: another program would have to come from the host, and while
    the guest is idle its clock goes by the host's.
    """
    loop = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
    turn = f"read before rest </proc/uptime; {loop}; read after rest </proc/uptime"
    turn += "; echo $before $after"
    script = f"for turn in 1 2 3 4; do {turn}; done; echo $PGTABLE_CLEANUP_ICOUNT"
    done = lab("--icount", "--cpus", "1", "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert "clock counted" not in done.stderr
    *lines, icount = done.stdout.splitlines()
    assert icount == "1"
    # Hundredths of a second; the first loop may still see the boot's end.
    _, *costs = (float(after) - float(before) for before, after in map(str.split, lines))
    assert min(costs) > 1
    assert max(costs) < 1.02 * min(costs), costs


@pytest.mark.usefixtures("temporary")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo c >/proc/sysrq-trigger", "Kernel panic - not syncing: sysrq triggered crash"),
        ("reboot -f", "it rebooted or powered off"),
    ],
    ids=["panic", "reboot"],
)
def test_a_guest_that_dies_fails_the_run(command: str, message: str) -> None:
    """Long before the command's end, for which lab() would not wait."""
    done = lab("--no-module", "--", "sh", "-c", f"echo before; {command}; sleep 10000")
    assert done.returncode == 1
    assert done.stdout == "before\n"
    assert "pgtable-cleanup: the guest went down before the command's end" in done.stderr
    assert message in done.stderr
    assert "the console's end:\n" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("temporary")
def test_a_hang_fails_the_run_in_time() -> None:
    """lab() would not wait for the command's end."""
    done = lab("--no-module", "--timeout", "15", "--", "sleep", "10000")
    assert done.returncode == 1
    assert "not done within 15 s (see --timeout)" in done.stderr


@pytest.mark.usefixtures("temporary")
def test_a_bug_in_the_kernels_log_fails_the_run() -> None:
    report = "BUG: Bad page state in process test"
    done = lab("--no-module", "--", "sh", "-c", f"echo '<6>{report}' >/dev/kmsg; echo out")
    assert done.returncode == 1
    assert done.stdout == "out\n"
    assert "the guest's kernel reported a bug" in done.stderr
    assert report in done.stderr


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


def test_a_real_warning_fails_the_run(faulty_module: Path) -> None:
    with pytest.raises(KernelReportError, match="reported a bug") as caught:
        boot(machine=Machine(module=faulty_module))
    assert any("faulty_init" in line for line in caught.value.reports)


def test_a_real_oops_ends_the_run(faulty_module: Path) -> None:
    with pytest.raises(LabError, match="BUG: kernel NULL pointer dereference"):
        boot(machine=Machine(module=faulty_module, module_args=("oops=1",)))


@pytest.mark.usefixtures("temporary")
def test_a_module_that_is_refused_fails_the_run() -> None:
    done = lab("--module-args", "mode=nonsense", "true")
    assert done.returncode == 1
    assert "the kernel refused the module" in done.stderr
    assert "nonsense" in done.stderr


@pytest.mark.usefixtures("temporary")
@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name
)
def test_a_signal_leaves_no_qemu(number: signal.Signals) -> None:
    with subprocess.Popen(
        [COMMAND, "lab", "run", "--no-module", "--disk", "1G", "sh", "-c", "echo up; sleep 1000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        children = psutil.Process(process.pid).children(recursive=True)
        assert [child.name() for child in children] != []
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert "Traceback" not in stderr
    assert process.returncode != 0
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


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
            # Typed once there is a shell to read it: QEMU flushes what came before.
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
        (["--memory", "lots"], "bad size 'lots'"),
        (["--disk", "0"], "bad size '0'"),
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


def test_a_file_below_the_guests_own_tmp_is_made_visible(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("seen")
    with boot(machine=WITHOUT_MODULE, visible=[file]) as booted:
        assert booted.run(["cat", str(file)]).stdout == b"seen"


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
    # Nothing listens there.
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


def boots_at_last() -> None:
    with boot(machine=WITHOUT_MODULE) as booted:
        assert booted.run(["sh", "-c", "exit 3"]).exit_code == 3


def test_a_boot_that_hangs_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that has not booted in time hangs."""
    limits = iter([0.1, guest.BOOT_SECONDS])
    start = Guest.start

    def started(self: Guest, *arguments: Any) -> None:  # noqa: ANN401
        monkeypatch.setattr(guest, "BOOT_SECONDS", next(limits))
        start(self, *arguments)

    monkeypatch.setattr(Guest, "start", started)
    boots_at_last()
    assert next(limits, None) is None


def test_a_boot_in_which_qemu_crashes_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU crashes as from a bug of its own."""
    crashes = iter([True, False])
    wait = Guest._wait

    def waited(self: Guest, *arguments: Any) -> None:  # noqa: ANN401
        if not self.boot_seconds and next(crashes):
            self._qemu._process.send_signal(signal.SIGSEGV)
        wait(self, *arguments)

    monkeypatch.setattr(Guest, "_wait", waited)
    boots_at_last()
    assert next(crashes, None) is None
